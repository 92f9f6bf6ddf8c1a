import dataclasses
import re
from dataclasses import replace

import pytest

from experiments import gpt3
from launch.experiment import functions, generations, module_of, resolve
from lm.core.config import bind, bindings, differences, dump, load, parse, read, typed
from lm.core.errors import ConfigError
from lm.train.pretrain import Pretrain

EXPERIMENTS = [
    f"{generation}:{name}"
    for generation in generations()
    for name in functions(module_of(generation))
]
MINE = '''
from dataclasses import replace

from experiments import gpt2
from lm.train.pretrain import Pretrain


def short(steps: int = 7) -> Pretrain:
    """Ours."""
    return replace(gpt2.tiny(), steps=steps)
'''


@pytest.fixture(scope="module")
def tiny():
    return resolve("gpt2:tiny")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("optim.peak_lrr", "optim.peak_lr"),
        ("peak_lr", "optim.peak_lr"),
        ("stepz", "steps"),
        ("model.widht", "model.width"),
    ],
)
def test_a_misspelt_binding_is_answered_with_the_nearest_name_and_the_list(tiny, wrong, right):
    with pytest.raises(
        ConfigError, match=f"unknown binding {wrong}; did you mean {right}?"
    ) as caught:
        bind(tiny, {wrong: "1"})
    assert right in str(caught.value).partition("known names: ")[2]
    assert ".class" not in str(caught.value)


def test_of_hundreds_of_names_those_like_a_misspelt_one_are_told():
    with pytest.raises(ConfigError, match=r"did you mean ppo\.steps\? ") as caught:
        bind(resolve("instructgpt:pipeline"), {"ppo.stepz": "1"})
    told = str(caught.value).partition("known names: ")[2]
    assert "ppo.steps" in told and "in all" in told
    assert len(told.split(", ")) <= 11
    with pytest.raises(ConfigError, match=r"unknown binding zzz; known names: \d+ in all$"):
        bind(resolve("instructgpt:pipeline"), {"zzz": "1"})


def test_a_name_below_a_number_is_unknown(tiny):
    with pytest.raises(ConfigError, match=r"unknown binding steps\.x"):
        bind(tiny, {"steps.x": "1"})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("steps", "1.5", "an int"),
        ("steps", "True", "an int"),
        ("steps", "many", "an int"),
        ("steps", "", "an int"),
        ("optim.peak_lr", "fast", "a finite float"),
        ("optim.peak_lr", "True", "a finite float"),
        ("model", "3", "GptConfig"),
        ("tokenizer.kind", "letters", "one of 'bytes'"),
        ("data.valid", "3", None),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_name(tiny, name, value, expected):
    if expected is None:  # a number is a string too, where a string is wanted
        assert bindings(bind(tiny, {name: value}))[name] == value
        return
    with pytest.raises(ConfigError, match=f"^{name}: expected {expected}") as caught:
        bind(tiny, {name: value})
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "1e999", "-1e999", "1" + "0" * 400])
def test_floats_that_are_not_finite_are_refused(tiny, value):
    with pytest.raises(ConfigError, match="expected a finite float"):
        bind(tiny, {"optim.peak_lr": value})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400], ids=["nan", "inf", "int"])
def test_floats_that_are_not_finite_are_refused_from_python_too(tiny, value):
    with pytest.raises(ConfigError, match="expected a finite float"):
        bind(tiny, {"optim.peak_lr": value})


@pytest.mark.parametrize("value", ["-3e-4", "0", "-0.0"])
def test_a_learning_rate_that_is_not_positive_is_refused(tiny, value):
    with pytest.raises(ConfigError, match="^optim.peak_lr must be positive"):
        bind(tiny, {"optim.peak_lr": value})
    text = dump(tiny).replace(f"peak_lr = {tiny.optim.peak_lr}", f"peak_lr = {value}")
    with pytest.raises(ConfigError, match="^optim.peak_lr must be positive"):
        load(text)


def test_a_config_and_a_field_of_it_are_not_bound_together(tiny):
    values = {"optim": tiny.optim, "optim.peak_lr": "1e-3"}
    for order in (values, dict(reversed(values.items()))):
        with pytest.raises(ConfigError, match="conflicting bindings: optim and optim.peak_lr"):
            bind(tiny, order)


def test_relations_are_checked_on_the_result_alone(tiny):
    heads = tiny.model.heads
    bound = bind(tiny, {"model.width": str(heads * 40), "model.heads": str(heads * 2)})
    assert (bound.model.width, bound.model.heads) == (heads * 40, heads * 2)


@pytest.mark.parametrize(
    "value",
    [
        "__import__('os').system('touch made')",
        "[].__class__",
        "(lambda: 1)()",
        "2 * 3",
        "{[]: 1}",
        "(" * 300,
        "1\x00",
    ],
)
def test_literals_are_never_evaluated(tiny, tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError):
        bind(tiny, {"steps": value})
    with pytest.raises(ConfigError):
        parse(f"steps = {value}\n")
    with pytest.raises(ConfigError):
        resolve(f"gpt2:train(size={value})")
    assert bind(tiny, {"data.train": value}).data.train == value
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["steps 3", "= 3", "steps = ", "steps = three", "steps = 1 2"])
def test_a_malformed_line_is_named_by_file_and_number(line):
    with pytest.raises(ConfigError, match=re.escape("run/config.gin:3: expected name = literal")):
        load(f"# saved\n\n{line}\n", "run/config.gin")


def test_a_file_that_begins_with_a_byte_order_mark_is_read_as_it_is(tiny, tmp_path):
    path = tmp_path / "config.gin"
    path.write_text(dump(tiny), encoding="utf-8-sig")
    assert read(path) == tiny


@pytest.mark.parametrize("line", ["\0" * 4000, "steps = " + "x" * 4000, "class = '" + "x" * 4000])
def test_a_file_that_is_no_config_is_told_in_a_short_line(tmp_path, line):
    (tmp_path / "config.gin").write_text(line)
    with pytest.raises(ConfigError, match="expected name = literal") as error:
        read(tmp_path / "config.gin")
    assert len(str(error.value).removeprefix(str(tmp_path))) < 200


def test_two_values_for_one_name_are_refused_and_equal_ones_are_not():
    with pytest.raises(ConfigError, match="mine:2: steps is bound to 1 and 2"):
        parse("steps = 1\nsteps = 2\n", "mine")
    assert parse("steps = 1\nsteps = 1\n") == {"steps": 1}


@pytest.mark.parametrize(
    "path",
    ["os.path", "os.system", "subprocess.Popen", "lm", "lm.", "lm..x", "lm.core.config.bind", ""]
    + ["lm.core.config.dataclasses.Field", "lm.absent.Config", "lm.core.errors.ConfigError", 3],
)
def test_only_config_classes_of_ours_are_built(path):
    with pytest.raises(ConfigError, match="is not a config class of lm"):
        load(f"class = {path!r}\n")


def test_a_class_of_the_users_own_is_refused_where_it_would_be_written(tiny):
    """And not once the run is to be resumed or loaded, when its steps have been made."""

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Model(type(tiny.model)):
        extra: int = 3

    class Mine(type(tiny)):
        pass

    fields = {field.name: getattr(tiny, field.name) for field in dataclasses.fields(tiny)}
    with pytest.raises(ConfigError, match=r"class: no run of .*\.Mine could be read back"):
        dump(Mine(**fields))
    model = {f.name: getattr(tiny.model, f.name) for f in dataclasses.fields(tiny.model)}
    with pytest.raises(ConfigError, match=r"model\.class: no run of .*: take one of lm's own"):
        dump(replace(tiny, model=Model(**model)))


def test_a_class_of_ours_in_the_wrong_place_is_refused(tiny):
    text = dump(tiny)
    before, after = "'lm.models.gpt.GptConfig'", "'lm.train.optimizer.AdamWConfig'"
    lines = [line for line in text.splitlines() if not line.startswith("model.")]
    lines += [f"model.class = {after}", "model.peak_lr = 1e-3", "model.warmup_tokens = 1"]
    with pytest.raises(ConfigError, match="model: expected GptConfig"):
        load("\n".join(lines))
    assert before in text


def test_a_file_without_its_class_or_with_an_unknown_or_missing_name_is_refused(tiny):
    text = dump(tiny)
    with pytest.raises(ConfigError, match="class is missing"):
        load("steps = 3\n")
    with pytest.raises(ConfigError, match=r"unknown binding optim\.peak_lrr; did you mean"):
        load(text + "optim.peak_lrr = 1.0\n")
    lines = [line for line in text.splitlines() if not line.startswith("model.width ")]
    with pytest.raises(ConfigError, match="'width'"):
        load("\n".join(lines))


def test_a_config_saved_before_a_field_was_renamed_is_read_as_it_was_meant(tiny):
    text = dump(tiny).replace("loop.log_norms = False", "loop.layer_norms = True")
    assert "layer_norms" in text and load(text) == bind(tiny, {"loop.log_norms": True})


@pytest.mark.parametrize("spec", EXPERIMENTS)
def test_every_experiment_is_loaded_back_as_it_was_dumped(spec):
    config = resolve(spec)
    again = load(dump(config), spec)
    assert again == config
    assert dump(again) == dump(config)
    assert differences(config, again) == {}


def test_differences_name_the_bindings_with_old_and_new_value(tiny):
    assert differences(tiny, bind(tiny, {"steps": "3"})) == {"steps": (tiny.steps, 3)}


def test_an_experiment_is_named_in_call_syntax():
    assert (
        resolve('gpt2:train(size="xl")') == resolve("gpt2:xl") == resolve("gpt2:train(size='xl')")
    )
    assert resolve("gpt2:train()") == resolve("gpt2:train") == resolve("gpt2:small")


def test_an_experiment_of_the_users_own_file_is_found(tmp_path, monkeypatch):
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    assert resolve(f"{path}:short").steps == 7
    assert resolve(f"{path}:short(steps=9)").steps == 9
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/mine.py:short").steps == 7
    assert isinstance(resolve(f"{path}:short"), Pretrain)
    with pytest.raises(ConfigError, match=f"did you mean {path}:short.*has: short$"):
        resolve(f"{path}:shrot")
    with pytest.raises(ConfigError, match="no such file"):
        resolve(f"{tmp_path}/absent.py:short")


def test_a_function_of_ones_own_needs_no_annotation(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE.replace(" -> Pretrain", "").replace(": int", ""))
    assert resolve(f"{path}:short(steps=9)").steps == 9
    with pytest.raises(ConfigError, match="unexpected keyword argument 'stepz'.*has: short$"):
        resolve(f"{path}:short(stepz=9)")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("return {}['x']", r"raised KeyError: 'x' \(.*mine.py:LINE\)"),
        ("return gpt2.tiny().abc", r"raised AttributeError: .*abc.* \(.*mine.py:LINE\)"),
        ("return replace(gpt2.tiny(), steps=-1)", r"raised ConfigError: steps must be .*py:LINE"),
        ("raise SystemExit(3)", r"raised SystemExit: 3 \(.*mine.py:LINE\)"),
        ("return 3", "returned 3, which is no experiment: return one, such as"),
        ("return gpt2.tiny().optim", "returned AdamWConfig.*, which is no experiment"),
        ("return replace(gpt2.tiny(), seed=1.5)", "^seed: expected an int, got 1.5"),
        (
            "return replace(gpt2.tiny(), data=replace(gpt2.tiny().data, train=3))",
            "^data.train: expected a str.*, got 3",
        ),
    ],
)
def test_a_fault_of_a_function_of_ones_own_is_one_line(line, message, tmp_path):
    path = tmp_path / "mine.py"
    text = "from dataclasses import replace\nfrom experiments import gpt2\n\ndef bad():\n"
    path.write_text(f"{text}    {line}\n")
    with pytest.raises(ConfigError, match=message.replace("LINE", "5")) as caught:
        resolve(f"{path}:bad")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_list_in_a_config_of_ones_own_becomes_a_tuple(tmp_path, tiny):
    model = replace(tiny.model, pattern=["dense", "banded"])
    assert typed(replace(tiny, model=model)).model.pattern == ("dense", "banded")
    assert typed(tiny) == tiny


def test_a_colon_in_an_argument_is_text(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MINE.replace("steps: int = 7", 'note: str = "", steps: int = 7'))
    assert resolve(f"{path}:short(note='hf:books')").steps == 7


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gpt2:tinny", "did you mean gpt2:tiny? gpt2 has: train, "),
        ("gpt2:train(size='huge')", "unknown experiment gpt2:train(size='huge')"),
        ("gpt2:train(sise='xl')", "unknown experiment gpt2:train(sise='xl')"),
        ("gpt2:train('xl')", "cannot read"),
        ("gtp2:tiny", "unknown generation 'gtp2'; did you mean gpt2? known: "),
        ("gpt2", "write GENERATION:NAME"),
        ("gpt2:", "write GENERATION:NAME"),
        (":tiny", "write GENERATION:NAME"),
        ("../lm:tiny", "unknown generation"),
    ],
)
def test_an_unknown_experiment_is_answered_with_those_there_are(spec, message):
    with pytest.raises(ConfigError) as caught:
        resolve(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "sizes"),
    [
        ("gpt2:7b", ("small", "medium", "large", "xl")),
        ("gpt3:1.3b", gpt3.SIZES),
        ("gpt3:ladder(size='1b')", gpt3.LADDER),
    ],
)
def test_a_size_that_there_is_not_is_answered_with_those_there_are(spec, sizes):
    with pytest.raises(ConfigError, match=f": {', '.join(map(re.escape, sizes))}\\."):
        resolve(spec)


@pytest.mark.parametrize("text", ["none", "None", "'q'", '"q"', "3", "true", "\u2028"])
def test_text_that_looks_like_a_literal_is_loaded_back_as_it_was(tiny, text):
    data = replace(tiny.data, train=text, valid=text)
    config = replace(tiny, data=data, loop=replace(tiny.loop, sample_prompts=(text,)))
    assert load(dump(config)) == config


def test_a_saved_config_with_a_value_and_fields_for_one_name_is_refused(tiny):
    ramp = "ramp.class = 'lm.data.batches.BatchRamp'\nramp.start = 4\nramp.tokens = 1000\n"
    assert tiny.ramp is None and load(dump(tiny)).ramp is None
    for text in (dump(tiny) + ramp, ramp + dump(tiny)):
        with pytest.raises(ConfigError, match="conflicting bindings: ramp and ramp.class"):
            load(text)
    assert load(dump(tiny).replace("ramp = None\n", ramp)).ramp.start == 4


def test_configs_are_frozen(tiny):
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny.steps = 3
