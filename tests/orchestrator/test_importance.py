import numpy as np

from orchestrator.importance import importances


def draw(count: int, seed: int = 0) -> tuple[list[dict], list[float]]:
    """`large` matters twice as much as `small`, `none` and the word `kind` not at all."""
    rng = np.random.default_rng(seed)
    params = [
        {"large": rng.uniform(), "small": rng.uniform(), "none": rng.uniform(), "kind": str(rng.choice(["a", "b"]))}
        for _ in range(count)
    ]
    return params, [2 * each["large"] + each["small"] for each in params]


def test_parameters_are_ranked_as_the_known_function_weighs_them():
    found = importances(*draw(120), "max", resamples=5)

    assert [row.path for row in found.rows][:2] == ["large", "small"]
    assert found.rows[0].share > 0.6


def test_shares_sum_to_one():
    found = importances(*draw(40), "max", resamples=5)

    assert abs(sum(row.share for row in found.rows) - 1) < 1e-9


def test_the_interval_holds_the_share_and_narrows_with_trials():
    few, many = (importances(*draw(count), "max", resamples=30).rows[0] for count in (16, 128))

    assert few.low <= few.share <= few.high
    assert many.low <= many.share <= many.high
    assert many.high - many.low < few.high - few.low


def test_a_minimum_is_as_good_a_goal_as_a_maximum():
    params, values = draw(60)
    upward = importances(params, values, "max", resamples=2)
    downward = importances(params, [-value for value in values], "min", resamples=2)

    assert [(row.path, row.share) for row in upward.rows] == [(row.path, row.share) for row in downward.rows]


def test_equal_trials_give_equal_intervals():
    assert importances(*draw(20), "max", resamples=10) == importances(*draw(20), "max", resamples=10)


def test_few_trials_are_refused_with_a_sentence():
    found = importances(*draw(7), "max")

    assert found.rows == ()
    assert found.refusal == "Parameter importance needs at least 8 finished trials; there are 7."


def test_parameters_that_never_vary_are_refused_with_a_sentence():
    found = importances([{"lr": 0.1}] * 9, [0.1 * i for i in range(9)], "max")

    assert found.refusal == "No parameter took more than one value, so none can be important."


def test_equal_objectives_are_refused_with_a_sentence():
    found = importances(draw(9)[0], [0.5] * 9, "max")

    assert found.refusal == "All finished trials have the same objective, so no parameter can be important."


def test_a_conditional_parameter_and_a_list_have_an_importance():
    params, values = draw(24)
    extra = [{"crop": [64, 64]}, {"crop": [96, 96], "depth": 1}, {"crop": [96, 96], "depth": 2}] * 8
    mixed = [{**each, **more} for each, more in zip(params, extra, strict=True)]
    found = importances(mixed, values, "max", resamples=10)

    assert {"crop", "depth"} <= {row.path for row in found.rows}


def test_a_log_scale_is_read_as_one():
    rng = np.random.default_rng(0)
    params = [{"lr": float(10 ** rng.uniform(-4, 0)), "other": float(rng.uniform())} for _ in range(80)]
    values = [-abs(np.log10(each["lr"]) + 3) for each in params]
    found = importances(params, values, "max", logarithmic=frozenset({"lr"}), resamples=5)

    assert found.rows[0].path == "lr"
    assert found.rows[0].share > 0.8


def test_neither_optunas_verbosity_nor_the_global_generator_is_left_changed():
    import optuna

    level, state = optuna.logging.get_verbosity(), np.random.get_state()[1].copy()
    importances(*draw(10), "max", resamples=3)

    assert optuna.logging.get_verbosity() == level
    assert (np.random.get_state()[1] == state).all()
