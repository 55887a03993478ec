"""Which values make two jobs the same, and which make two results comparable."""

from prunelab.store.identity import changes_result, comparable, flat


def test_results_are_comparable_whatever_their_method_rate_and_seed() -> None:
    values = {"model.width": 8, "rate": 0.5, "seed": 1, "rounds": 2, "prune.pruning.pruner.skip": [], "prune": "usp"}
    assert comparable(values) == {"model.width": 8}


def test_callbacks_that_only_log_make_no_other_table() -> None:
    monitor = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor", "logging_interval": "step"}
    values = flat({"callbacks": {"lr_monitor": monitor, "ema": {"decay": 0.9}}})
    assert comparable(values) == {"callbacks.ema.decay": 0.9}
    assert not changes_result("trainer.log_every_n_steps")


def test_a_budget_and_the_rate_of_fine_tuning_are_a_methods_own() -> None:
    """Without them in it, the digests of earlier jobs with the defaults would no longer be those of new ones."""
    defaults = {"budget": "units", "optim.finetune": 0.01, "optim.lr": 0.1}
    assert comparable({"budget": "macs", "optim.finetune": 0.001, "optim.lr": 0.1}) == defaults
    assert comparable({"optim.lr": 0.1}) == {"optim.lr": 0.1}


def test_a_key_is_left_out_by_its_whole_name() -> None:
    assert not changes_result("data.root")
    assert not changes_result("data.md5")
    assert not changes_result("logger.save_dir")
    assert changes_result("data.root_of_all")
    assert changes_result("names")


def test_jobs_from_before_a_value_keep_their_identity() -> None:
    of = {"of": "units"}
    config = {"rate": 0.5, "round_to": 1, "prune": {"pruning": {"pruner": {"budget": of | {"round_to": 1}}}}}
    assert flat(config) == flat({"rate": 0.5, "prune": {"pruning": {"pruner": {"budget": of}}}})
    assert flat(config | {"round_to": 8})["round_to"] == 8


def test_a_key_that_was_added_later_leaves_earlier_jobs_as_they_were() -> None:
    before = {"data": {"val": 5000}, "rate": 0.5}
    assert flat({"data": {"val": 5000, "size": None}, "rate": 0.5}) == flat(before)
    assert flat({"data": {"val": 5000, "size": 64}, "rate": 0.5}) != flat(before)


def test_a_callback_that_was_added_later_and_does_nothing_leaves_earlier_jobs_as_they_were() -> None:
    sparsify = {"_target_": "prunelab.callbacks.sparsify.Sparsify", "l1": 0.0, "threshold": 0.0}
    before = {"prune": {"shrink": {"_target_": "prunelab.callbacks.shrink.Shrink"}}}
    assert flat({"prune": {**before["prune"], "sparsify": sparsify}}) == flat(before)
    assert flat({"prune": {**before["prune"], "sparsify": sparsify | {"l1": 0.1}}})["prune.sparsify.l1"] == 0.1
