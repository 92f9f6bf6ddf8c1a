"""What was asked of images stands in the report, and nothing of it becomes code."""

from lm.report.gallery import gallery

ROW = {
    "image": "iVBORw0KGgo=", "attention": [0.7, 0.1, 0.1, 0.1], "question": "what <b>?",
    "answer": "red", "truth": "blue",
}  # fmt: skip


def test_image_question_answer_and_truth_are_shown_with_a_cell_for_each_slot():
    shown = gallery([ROW])
    assert shown.count("data:image/png;base64,iVBORw0KGgo=") == 2
    assert "what &lt;b&gt;?" in shown and "red" in shown and "blue" in shown
    assert shown.count("<rect") == 4 and 'fill-opacity="0.00"' in shown  # the most is not darkened


def test_every_image_is_shown_and_darkened_by_what_all_of_them_were_looked_at():
    several = ROW | {"images": ["AAAA", "BBBB"], "attention": [[0.6, 0, 0, 0], [0.3, 0, 0, 0.1]]}
    del several["image"]
    shown = gallery([several])
    assert shown.count("base64,AAAA") == shown.count("base64,BBBB") == 2
    assert shown.count('fill-opacity="0.00"') == 1 and shown.count('fill-opacity="0.40"') == 1
    assert gallery([several | {"images": ["AAAA"]}]) == ""


def test_what_is_no_image_is_left_out():
    assert gallery([]) == ""
    assert gallery([ROW | {"image": '"><script>'}]) == ""
    assert gallery([ROW | {"attention": ["x"]}, ROW | {"image": 3}]) == ""
