"""How texts are shown in a real browser: what Markdown marks, and what is none of it."""

import pytest

from tests.serve.browser import browsing
from tests.serve.served import listening, served

pytestmark = pytest.mark.slow
# A node as nested lists: its name, and what is in it; a text is itself. Of code, what it holds.
TREE = """(text) => {
  const tree = (node) => {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    if (node.className === "code") {
      return ["pre", ...["span", "pre"].map((name) => node.querySelector(name).textContent)];
    }
    const name = node.localName + (node.value ? node.value : "");
    return [name, ...[...node.childNodes].map(tree)];
  };
  return tree(saying(text, true)).slice(1);
}"""


@pytest.fixture(scope="module")
def page():
    with listening(served(start=False)) as address, browsing(address) as page:
        yield page


def shown(page, text):
    return page.evaluate(TREE, text)


@pytest.mark.parametrize("text, tree", [
    ("so **it is**, **`x`**", ["so ", ["strong", "it is"], ", ", ["strong", ["code", "x"]]]),
    ("`a*b` and ``a ` b``.", [["code", "a*b"], " and ", ["code", "a ` b"], "."]),
    ("# One #\n\nand\n\n### C# ", [["h3", "One"], "and", ["h5", "C#"]]),
    ("Two:\n\n- a\n- **b**\n\nEnd", ["Two:", ["ul", ["li", "a"], ["li", ["strong", "b"]]], "End"]),
    ("3. a\n\n4) b\n9. c", [["ol", ["li3", "a"], ["li4", "b"], ["li9", "c"]]]),
    ("- a\n  1. x\n  2. y\n     more\n- b\n1. c",
     [["ul", ["li", "a", ["ol", ["li1", "x"], ["li2", "y", "\n", "more"]]], ["li", "b"]],
      ["ol", ["li1", "c"]]]),
    ("| a | b |\n|---|:-:|\n| 1 | `2` |\n| \\| |\nend",
     [["div", ["table", ["tr", ["th", "a"], ["th", "b"]],
               ["tr", ["td", "1"], ["td", ["code", "2"]]], ["tr", ["td", "|"]]]], "end"]),
])  # fmt: skip
def test_what_markdown_marks_is_shown_as_what_it_is(page, text, tree):
    assert shown(page, text) == tree


@pytest.mark.parametrize("text, tree", [
    ("1. so:\n   ```py\n   if x:\n     y\n   ```\n2. end",
     [["ol", ["li1", "so:"]], ["pre", "py", "if x:\n  y\n"], ["ol", ["li2", "end"]]]),
    ("~~~\na\n```\n~~~~", [["pre", "", "a\n```\n"]]),
    ("````md\nsee\n```py\nx\n```\n````\n", [["pre", "md", "see\n```py\nx\n```\n"]]),
    ("a\n```\n\n# b\n", ["a", ["pre", "", "\n# b\n"]]),
    ("```\n```\nb", [["pre", "", ""], "b"]),
])  # fmt: skip
def test_code_is_set_apart_by_every_kind_of_fence_and_holds_what_is_within(page, text, tree):
    assert shown(page, text) == tree


@pytest.mark.parametrize("text", [
    "  a\n\n\n  poem,\tline by line \n",
    "2**3 ** 4, 2 ** 3**4, a*b*c and __init__ of ** and `",
    "#tag and #1\n-5 degrees\n- \n---\n* * *\n1.5 and 3.",
    "a | b\nno | table\n|--|\n",
    "***\na fence is ``` or more",
    "**never ended\n** on one line",
    "",
])  # fmt: skip
def test_what_is_no_markdown_stays_as_it_was_written(page, text):
    assert shown(page, text) == ([text] if text else [])


def test_what_a_text_says_is_never_markup_of_the_page(page):
    nasty = "<img src=x onerror=\"document.title='owned'\">"
    text = "\n".join([
        nasty, f"**{nasty}**", f"`{nasty}`", f"# {nasty}", f"- {nasty}",
        f"|{nasty}|\n|-|\n|{nasty}|",
        f"```{nasty}\n{nasty}\n```", "[x](javascript:alert(1)) ![x](https://example.org/x.png)",
    ])  # fmt: skip
    found = page.evaluate(
        """(text) => {
          const node = saying(text, true);
          document.body.append(node);
          const names = new Set([...node.querySelectorAll("*")].map((one) => one.localName));
          return [[...names].sort(), node.textContent];
        }""",
        text,
    )
    names = "button code div h3 li pre span strong table tbody td th tr ul".split()
    assert set(found[0]) <= set(names)
    assert found[1].count(nasty) == 9 and "![x](https://example.org/x.png)" in found[1]
    assert page.title() == "lm · chat"


def test_a_text_that_grows_letter_by_letter_ends_as_the_whole_is_shown(page):
    text = "# T\n\nso **b** `c`\n\n- a\n  1. b\n  2. c\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    text += "\n~~~py\nx\n~~~\nend"
    assert page.evaluate(
        """(text) => {
          const node = saying("", true);
          for (let end = 1; end <= text.length; end++) fillSaid(node, text.slice(0, end), true);
          return node.innerHTML === saying(text, true).innerHTML;
        }""",
        text,
    )


def test_what_a_person_asks_is_shown_as_it_was_typed(page):
    text = "# one\n- **two**"
    assert page.evaluate("(text) => saying(text, false).innerHTML", text) == text
