"""Trees, overrides, errors with place and cure, fingerprints."""

from __future__ import annotations

import pytest

from guidedmix_core.errors import ConfigError
from guidedmix_core.schema import build, dump, explain, fingerprint, flatten, json_schema
from guidedmix_core.sources import Tree, override, parse, parse_changes, read_run

RUN = """\
seed: 1
method: {name: supervised}
segmentor:
  name: deeplabv3plus
  backbone: {name: tiny}
data: {name: shapes}
train:
  steps: 10
  batch_size: 4
"""


def tree(text: str = RUN) -> Tree:
    return parse(text, "run.yaml")


def error_of(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build(tree(text))
    return str(caught.value)


def test_a_dumped_run_builds_to_an_equal_run() -> None:
    config = build(tree())
    assert build(Tree(dump(config), {})) == config


def test_equal_trees_have_equal_fingerprints_whatever_the_order_of_keys() -> None:
    shuffled = "train: {batch_size: 4, steps: 10}\n" + RUN.partition("train:")[0]
    assert fingerprint(build(tree())) == fingerprint(build(tree(shuffled)))


def test_the_seed_is_part_of_the_fingerprint() -> None:
    assert fingerprint(build(tree())) != fingerprint(build(tree(RUN.replace("seed: 1", "seed: 2"))))


def test_an_unknown_key_names_file_line_path_and_the_nearest_name() -> None:
    message = error_of(RUN.replace("batch_size", "batchsize"))
    assert message.startswith("run.yaml:9: train.batchsize: unknown key; did you mean 'batch_size'?")


def test_an_unknown_component_names_the_nearest_one() -> None:
    message = error_of(RUN.replace("name: supervised", "name: superviced"))
    assert message.startswith("run.yaml:2: method.name: no method 'superviced'; did you mean 'supervised'?")


def test_a_wrong_type_names_value_and_expectation() -> None:
    assert error_of(RUN.replace("steps: 10", "steps: ten")) == 'run.yaml:8: train.steps="ten": expected an integer'


def test_a_number_in_quotes_is_no_number() -> None:
    assert error_of(RUN.replace("steps: 10", 'steps: "10"')) == 'run.yaml:8: train.steps="10": expected an integer'


def test_a_value_out_of_range_names_the_bound() -> None:
    assert error_of(RUN.replace("steps: 10", "steps: 0")) == "run.yaml:8: train.steps=0: expected at least 1"


def test_every_problem_is_listed_at_once() -> None:
    message = error_of(RUN.replace("steps: 10", "steps: 0").replace("seed: 1", "seed: -1"))
    assert len(message.splitlines()) == 2


def test_an_error_inside_a_nested_component_keeps_its_path() -> None:
    message = error_of(RUN.replace("{name: tiny}", "{name: tiny, widht: 3}"))
    assert message.startswith("run.yaml:5: segmentor.backbone.widht: unknown key; did you mean 'width'?")


def test_a_section_that_is_missing_is_named() -> None:
    assert "method: required, and not given" in error_of(RUN.replace("method: {name: supervised}\n", ""))


def test_a_key_given_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"x.yaml:2: not readable as YAML: the key 'a' is given twice"):
        parse("a: 1\na: 2", "x.yaml")


def test_words_of_yaml_1_1_stay_words_and_exponents_are_numbers() -> None:
    assert parse("a: on\nb: 1e-3\nc: no", "x").values == {"a": "on", "b": 0.001, "c": "no"}


def test_a_change_wins_over_the_file_and_says_where_it_came_from() -> None:
    changed = override(tree(), parse_changes(["train.steps=20"]), "command line")
    origins = {path: (value, origin) for path, value, origin in explain(changed, build(changed))}
    assert origins["train.steps"] == (20, "command line")
    assert origins["train.batch_size"] == (4, "run.yaml:9")
    assert origins["train.accumulate"] == (1, "default")


def test_naming_another_component_starts_from_its_defaults() -> None:
    changed = override(
        tree(), parse_changes(["segmentor.backbone.name=timm", "segmentor.backbone.model=resnet18"]), "command line"
    )
    assert set(changed.values["segmentor"]["backbone"]) == {"name", "model"}


def test_a_change_without_an_equals_sign_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"expected dotted\.path=value"):
        parse_changes(["train.steps"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["method.name=cps", "method.mitrans.depth=2"], "command line: method.mitrans: unknown key"),
        (["data.name=folder"], "command line: data.root: required, and not given"),
        (["Method.name=cps"], "command line: Method: unknown key; did you mean 'method'?"),
        (["split.labeled=1.5"], "command line: split: labeled=1.5: expected a count"),
        (["train.accumulate=3"], "run.yaml:9 and command line: train.batch_size=4: expected a multiple of"),
        (["augment.crop=[]"], "command line: augment.crop=[]: expected more items"),
        (["augment.crop=[9,9,9]"], "command line: augment.crop=[9, 9, 9]: expected at most 2 items"),
    ],
)
def test_what_a_change_broke_is_blamed_on_the_change(changes: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(override(tree(), parse_changes(changes), "command line"))
    assert str(caught.value).startswith(said)


def test_a_value_given_by_its_path_and_inside_of_a_section_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"cells\.a: method\.name is given twice, also inside of method"):
        override(tree(), {"method.name": "cps", "method": {"name": "mean_teacher"}}, "cells.a")
    both = {"method": {"name": "mean_teacher"}, "method.threshold": 0.9}
    assert override(tree(), both, "cells.a").values["method"] == {"name": "mean_teacher", "threshold": 0.9}


def test_flatten_spells_components_by_name() -> None:
    assert flatten(build(tree()))["segmentor.backbone.name"] == "tiny"


def test_a_run_file_lies_over_its_base(tmp_path, monkeypatch) -> None:
    base = tmp_path / "search_spaces" / "base"
    base.mkdir(parents=True)
    (base / "under.yaml").write_text(RUN)
    (base / "over.yaml").write_text("base: under\ntrain: {steps: 3}\n")
    monkeypatch.chdir(tmp_path)
    config = build(read_run("over"))
    assert (config.train.steps, config.train.batch_size) == (3, 4)


def test_bases_that_lead_back_are_an_error(tmp_path, monkeypatch) -> None:
    base = tmp_path / "search_spaces" / "base"
    base.mkdir(parents=True)
    (base / "a.yaml").write_text("base: b\n")
    (base / "b.yaml").write_text("base: a\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="leads back"):
        read_run("a")


def test_the_json_schema_knows_every_component_and_its_fields() -> None:
    schema = json_schema()
    *options, _ = schema["properties"]["method"]["anyOf"]
    methods = [option["properties"]["name"]["const"] for option in options]
    assert "supervised" in methods
    assert "steps" in schema["properties"]["train"]["properties"]
    assert "$ref" not in str(schema)


def test_a_changed_field_leaves_the_other_defaults_of_its_section() -> None:
    changed = build(override(tree(), {"method.name": "cutmix_seg", "method.cutmix.probability": 0.7}, "test"))
    assert (changed.method.cutmix.area, changed.method.cutmix.probability) == ((0.5, 0.5), 0.7)
    hard = build(override(tree(), {"method.name": "pcr", "method.labeled.ohem_min_kept": 7}, "test"))
    assert (hard.method.labeled.ohem, hard.method.labeled.ohem_min_kept) == (0.7, 7)
