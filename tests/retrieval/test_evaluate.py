import tempfile
from collections import defaultdict
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clirscale.config import SearchConfig
from clirscale.data import lareqa
from clirscale.data.tasks import SETTINGS, Passage, Query, RetrievalTask
from clirscale.errors import ClirscaleError, ConfigError, DataError
from clirscale.retrieval import evaluate as module
from clirscale.retrieval.evaluate import BIAS
from clirscale.retrieval.search import DenseScorer

MEASURES = ["P@5", "R@20", "nDCG@10", "AP", "RR"]
AT_DEPTH = ["P@5", "R@20", "nDCG@10"]
KEYS = ["setting", "query_lang", "passage_lang"]


def evaluate(task, queries, passages, measures, run_depth, index="exact", sample=10, seed=0):
    search = SearchConfig(index=index, sample=sample, seed=seed)
    return module.evaluate(task, DenseScorer(queries, passages), measures, run_depth, search)


def parallel_task(questions=6, sentences=3, languages=("de", "en", "zh")):
    """Each question has one relevant sentence in every language."""
    queries = [Query(f"{lang}:{q}", lang, f"g{q}", "?") for lang in languages for q in range(questions)]
    passages = [Passage(f"{lang}_{p}", lang, ".") for lang in languages for p in range(questions * sentences)]
    qrels = {q.id: {f"{lang}_{int(q.group_id[1:]) * sentences}": 1 for lang in languages} for q in queries}
    return RetrievalTask("parallel", tuple(queries), tuple(passages), qrels)


def random_vectors(task, seed=0, dim=4, whole=False):
    rng = np.random.default_rng(seed)
    draw = (lambda n: rng.integers(-2, 3, (n, dim))) if whole else (lambda n: rng.standard_normal((n, dim)))
    parts = [draw(len(part)).astype(np.float32) for part in (task.queries, task.passages)]
    for vectors in parts:
        vectors[~vectors.any(axis=1)] = 1  # zero vectors are refused
    return parts


@st.composite
def problems(draw):
    """Small tasks with ties, graded and zero judgements, queries without any, and languages on one side only."""
    langs = st.sampled_from(["de", "en", "zh"])
    names = st.text("ab1é字>_:", min_size=1, max_size=4)
    queries = [
        Query(i, draw(langs), draw(st.sampled_from("xyz")), "?") for i in draw(st.sets(names, min_size=1, max_size=6))
    ]
    passages = [Passage(i, draw(langs), ".") for i in draw(st.sets(names, min_size=1, max_size=15))]
    grades = st.dictionaries(st.sampled_from([p.id for p in passages]), st.integers(0, 3), min_size=1)
    qrels = {q.id: draw(grades) for q in queries if draw(st.booleans())}
    qrels.setdefault(queries[0].id, {})[passages[0].id] = 1
    task = RetrievalTask("t", tuple(queries), tuple(passages), qrels)
    return task, *random_vectors(task, draw(st.integers(0, 99)), dim=2, whole=True)  # fmt: skip


def rankings_by_definition(task, queries, passages):
    """Yield setting, query, passage language, judgements and scores, each ranking apart."""
    for q, query in enumerate(task.queries):
        scores = {p.id: float(passages[i] @ queries[q]) for i, p in enumerate(task.passages)}
        for corpus in (*sorted({p.lang for p in task.passages}), "*"):
            inside = {p.id for p in task.passages if corpus in ("*", p.lang)}
            judged = {p: g for p, g in task.qrels.get(query.id, {}).items() if p in inside}
            setting = "multi" if corpus == "*" else "mono" if corpus == query.lang else "cross"
            yield setting, query, corpus, judged, {p: s for p, s in scores.items() if p in inside}


def bias_by_definition(task, query, judged, scores):
    """The columns of BIAS for one query in the multilingual pool."""
    lang = {p.id: p.lang for p in task.passages}
    order = sorted(scores, key=lambda p: (scores[p], p), reverse=True)
    relevant = [p for p, grade in judged.items() if grade >= 1]
    found = dict.fromkeys(BIAS, np.nan)
    if len({lang[p] for p in relevant}) > 1:
        ranks = [order.index(p) for p in relevant]
        found["rank_distance"] = max(ranks) - min(ranks)
    own = [p for p in order if lang[p] == query.lang]
    if own and len(set(lang.values())) > 1:
        found["own_share@20"] = sum(p in own for p in order[:20]) / len(order[:20])
        found["own_share"] = len(own) / len(order)
        others = {p: s for p, s in scores.items() if p not in own}
        if any(p in others for p in relevant):
            qrels = {p: g for p, g in judged.items() if p in others}
            found["AP_other"] = ir_measures.calc_aggregate([ir_measures.AP], {"q": qrels}, {"q": others})[
                ir_measures.AP
            ]
    return found


@settings(max_examples=60, deadline=None)
@given(problems())
def test_equal_to_trec_eval_on_each_ranking(problem):
    task, queries, passages = problem
    evaluation = evaluate(task, queries, passages, MEASURES, 20)
    rows = evaluation.per_query.set_index(["setting", "query_id", "passage_lang"])
    expected_rows, dropped = 0, defaultdict(int)
    for setting, query, corpus, judged, scores in rankings_by_definition(task, queries, passages):
        dropped[setting, query.lang, corpus] += 0
        if not any(grade >= 1 for grade in judged.values()):
            dropped[setting, query.lang, corpus] += 1
            continue
        expected_rows += 1
        row = rows.loc[(setting, query.id, corpus)]
        assert (row["query_lang"], row["group_id"]) == (query.lang, query.group_id)
        values = ir_measures.calc_aggregate(map(ir_measures.parse_measure, MEASURES), {"q": judged}, {"q": scores})
        for measure, value in values.items():
            assert row[str(measure)] == pytest.approx(value, abs=1e-9)
        if setting == "multi":
            expected = bias_by_definition(task, query, judged, scores)
            assert row[list(BIAS)].tolist() == pytest.approx([expected[name] for name in BIAS], nan_ok=True)
        else:
            assert row[list(BIAS)].isna().all()
    assert len(rows) == expected_rows
    cells = evaluation.cells().set_index(KEYS)
    assert cells["n_dropped"].to_dict() == dropped
    assert cells["n_queries"].sum() == expected_rows


def of_files(folder, setting, measures):
    """Per-query values by ir-measures on the files of a setting."""
    run = list(ir_measures.read_trec_run(str(folder / "runs" / f"{setting}.trec.gz")))
    qrels = list(ir_measures.read_trec_qrels(str(folder / "qrels" / f"{setting}.trec.gz")))
    table = defaultdict(dict)
    for metric in ir_measures.iter_calc(map(ir_measures.parse_measure, measures), qrels, run):
        table[metric.query_id][str(metric.measure)] = metric.value
    means = ir_measures.calc_aggregate(map(ir_measures.parse_measure, measures), qrels, run)
    return pd.DataFrame.from_dict(table, orient="index"), {str(m): v for m, v in means.items()}


def assert_files_reproduce(evaluation, folder, measures=AT_DEPTH):
    for setting in SETTINGS:
        rows = evaluation.per_query[evaluation.per_query["setting"] == setting]
        assert (folder / "runs" / f"{setting}.trec.gz").exists() == bool(len(rows))
        if not len(rows):
            continue
        table, means = of_files(folder, setting, measures)
        ids = rows["query_id"].astype(str)
        if setting == "cross":
            ids += ">" + rows["passage_lang"].astype(str)
        assert sorted(ids) == sorted(table.index)
        table = table.loc[ids]
        np.testing.assert_allclose(table[measures].to_numpy(), rows[measures].to_numpy(), atol=1e-9)
        assert means == pytest.approx(rows[measures].mean().to_dict(), abs=1e-9)
        # macro average: over queries in each pair of languages, then over pairs
        languages = [rows[key].astype(str).to_numpy() for key in KEYS[1:]]
        macro = table.groupby(languages).mean().mean()
        assert {name: evaluation.summary()[setting][name] for name in measures} == pytest.approx(macro.to_dict())


@settings(max_examples=40, deadline=None)
@given(problems())
def test_trec_eval_on_the_files_gives_the_same(problem):
    evaluation = evaluate(*problem, MEASURES, 20)
    with tempfile.TemporaryDirectory() as folder:
        evaluation.save(Path(folder))
        assert_files_reproduce(evaluation, Path(folder))


@pytest.mark.parametrize("run_depth", [20, 100])
def test_trec_eval_on_the_files_of_a_parallel_task(tmp_path, run_depth):
    task = parallel_task(questions=30)
    evaluation = evaluate(task, *random_vectors(task), MEASURES, run_depth)
    evaluation.save(tmp_path)
    assert_files_reproduce(evaluation, tmp_path)
    depth = defaultdict(int)
    for line in ir_measures.read_trec_run(str(tmp_path / "runs" / "multi.trec.gz")):
        depth[line.query_id] += 1
    assert set(depth.values()) == {run_depth}


def test_complete_run_files_give_every_number(tmp_path):
    task = parallel_task(questions=30)
    evaluation = evaluate(task, *random_vectors(task), MEASURES, None)
    evaluation.save(tmp_path)
    assert_files_reproduce(evaluation, tmp_path, MEASURES)


def test_settings_of_a_parallel_task():
    task = parallel_task()
    cells = evaluate(task, *random_vectors(task), MEASURES, 20).cells()
    assert cells["setting"].value_counts().to_dict() == {"mono": 3, "cross": 6, "multi": 3}
    assert cells["setting"].drop_duplicates().tolist() == list(SETTINGS)
    assert set(cells["n_queries"]) == {6}
    assert set(cells["n_dropped"]) == {0}


def test_perfect_and_language_biased_vectors():
    task = parallel_task(languages=("de", "en"))

    # One dimension a question, two for the language, one for what answers none: translations have the same content.
    def vectors(items, content, bias):
        matrix = np.zeros((len(items), 9), np.float32)
        for row, item in zip(matrix, items, strict=True):
            row[content(item) if content(item) is not None else 8] = 1
            row[6 + (item.lang == "de")] = bias
        return matrix

    def passage_content(p):
        number = int(p.id.split("_")[1])
        return number // 3 if number % 3 == 0 else None

    for bias, distance in ((0.0, 1), (2.0, 18)):
        queries = vectors(task.queries, lambda q: int(q.group_id[1:]), bias)
        evaluation = evaluate(task, queries, vectors(task.passages, passage_content, bias), ["P@1", "AP"], 5)
        summary = evaluation.summary()
        assert summary["mono"] == summary["cross"] == {"P@1": 1, "AP": 1}
        assert summary["multi"]["AP_other"] == 1
        assert summary["multi"]["own_share"] == 0.5
        assert summary["multi"]["own_share@20"] == (0.9 if bias else pytest.approx(0.5, abs=0.4))
        # biased: the own language's relevant passage first, its 17 others next, then the other language's
        assert summary["multi"]["rank_distance"] == distance
        assert summary["multi"]["AP"] == pytest.approx(1 if not bias else (1 + 2 / 19) / 2)


def test_macro_average_weighs_cells_not_queries():
    queries = [Query(f"q{i}", "en" if i < 9 else "de", f"g{i}", "?") for i in range(10)]
    passages = [Passage("a", "en", "."), Passage("b", "en", "."), Passage("c", "de", "."), Passage("d", "de", ".")]
    qrels = {q.id: {"a": 1} if q.lang == "en" else {"d": 1} for q in queries}
    task = RetrievalTask("t", tuple(queries), tuple(passages), qrels)
    one_hot = np.eye(4, dtype=np.float32)
    # English queries find a (right), the German one finds c (wrong)
    vectors = one_hot[[0] * 9 + [2]]
    summary = evaluate(task, vectors, one_hot, ["P@1"], 5).summary()
    assert {setting: values["P@1"] for setting, values in summary.items()} == {"mono": 0.5, "multi": 0.5}


def test_dropped_queries_are_counted_and_an_empty_cell_does_not_count():
    full = parallel_task(questions=4, languages=("de", "en", "zh"))
    # g0 has no answer in zh; g1 has no judgement at all; de:2 finds nothing in en
    qrels = {
        q: {p: g for p, g in grades.items() if not (q.endswith(":0") and p.startswith("zh"))}
        for q, grades in full.qrels.items()
    }
    qrels = {q: grades for q, grades in qrels.items() if not q.endswith(":1")}
    task = RetrievalTask("t", full.queries, full.passages, qrels)
    cells = evaluate(task, *random_vectors(task), MEASURES, 20).cells().set_index(KEYS)
    assert cells.loc[("mono", "zh", "zh"), ["n_queries", "n_dropped"]].tolist() == [2, 2]
    assert cells.loc[("cross", "de", "zh"), ["n_queries", "n_dropped"]].tolist() == [2, 2]
    assert cells.loc[("cross", "de", "en"), ["n_queries", "n_dropped"]].tolist() == [3, 1]
    assert cells.loc[("multi", "de", "*"), ["n_queries", "n_dropped"]].tolist() == [3, 1]

    english = {q: {p: g for p, g in grades.items() if p.startswith("en")} for q, grades in full.qrels.items()}
    only_english = evaluate(
        RetrievalTask("t", full.queries, full.passages, english), *random_vectors(full), ["P@5"], 20
    )
    cells = only_english.cells().set_index(KEYS)
    assert cells.loc[("mono", "de", "de"), ["n_queries", "n_dropped"]].tolist() == [0, 4]
    assert np.isnan(cells.loc[("mono", "de", "de"), "P@5"])
    assert only_english.summary()["mono"] == {"P@5": cells.loc[("mono", "en", "en"), "P@5"]}
    assert "rank_distance" not in only_english.summary()["multi"]


def test_queries_in_languages_without_passages():
    task = RetrievalTask(
        "t", (Query("q", "yor", "g", "?"),), (Passage("a", "en", "."), Passage("b", "en", ".")), {"q": {"a": 1}}
    )
    summary = evaluate(task, *random_vectors(task), ["R@20"], 20).summary()
    assert summary == {"cross": {"R@20": 1}, "multi": {"R@20": 1}}


def test_a_measure_left_to_ir_measures_beyond_the_depth_of_the_run_files(tmp_path):
    task = parallel_task()
    evaluation = evaluate(task, *random_vectors(task), ["nDCG(gains={1:5})@10", "nDCG@10"], 3)
    given, plain = (evaluation.per_query[name] for name in evaluation.measures)
    np.testing.assert_allclose(given, plain)  # one grade: its gain cancels
    evaluation.save(tmp_path)
    run = list(ir_measures.read_trec_run(str(tmp_path / "runs" / "mono.trec.gz")))
    assert len(run) == 18 * 3


def test_per_query_file(tmp_path):
    task = parallel_task()
    evaluation = evaluate(task, *random_vectors(task), MEASURES, 20)
    evaluation.save(tmp_path)
    read = pd.read_parquet(tmp_path / "per_query.parquet")
    pd.testing.assert_frame_equal(read, evaluation.per_query, check_categorical=False)
    assert list(read) == [*KEYS, "query_id", "group_id", *MEASURES, *BIAS]
    assert len(read) == 18 + 36 + 18


def test_the_order_of_the_task_does_not_matter():
    task = parallel_task()
    queries, passages = random_vectors(task, whole=True)
    turned = RetrievalTask("t", task.queries[::-1], task.passages[::-1], task.qrels)
    one = evaluate(task, queries, passages, MEASURES, 20)
    other = evaluate(turned, queries[::-1], passages[::-1], MEASURES, 20)
    pd.testing.assert_frame_equal(one.cells(), other.cells())


def test_disk_full(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    task = parallel_task()
    evaluation = evaluate(task, *random_vectors(task), MEASURES, 20)
    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(ClirscaleError, match=r"per_query\.parquet: cannot be written \(No space left on device\)"):
        evaluation.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_the_settings_of_the_task_are_measured(tmp_path):
    full = parallel_task()
    task = RetrievalTask("t", full.queries, full.passages, full.qrels, settings=("cross",))
    evaluation = evaluate(task, *random_vectors(task), MEASURES, 20)
    assert set(evaluation.per_query["setting"]) == {"cross"}
    assert set(evaluation.cells()["setting"]) == {"cross"}
    evaluation.save(tmp_path)
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["cross.trec.gz"]
    queries, passages = [Query("q", "yo", "g", "?")], [Passage("p", "en", ".")]
    alone = RetrievalTask("t", queries, passages, {"q": {"p": 1}}, settings=("mono",))
    with pytest.raises(DataError, match="no query has a relevant passage in a setting of mono"):
        evaluate(alone, *random_vectors(alone), MEASURES, 20)


def test_excluded_passages_are_no_candidates(tmp_path):
    passages = [Passage(i, "en", ".") for i in ("a", "b", "c")]
    queries = [Query("a", "en", "a", "?"), Query("q", "en", "q", "?")]
    qrels = {"a": {"b": 1}, "q": {"b": 1}}
    vectors = np.float32([[1, 0], [0.9, 0.1], [0, 1]]), np.float32([[1, 0], [1, 0]])
    for excluded, ranks in (({}, (1 / 2, 1 / 2)), ({"a": frozenset("a")}, (1, 1 / 2))):
        task = RetrievalTask("t", queries, passages, qrels, excluded=excluded)
        evaluation = evaluate(task, vectors[1], vectors[0], ["RR", "AP"], 20)
        rows = evaluation.per_query[evaluation.per_query["setting"] == "mono"].set_index("query_id")
        assert rows.loc[["a", "q"], "RR"].tolist() == list(ranks)
        evaluation.save(tmp_path)
        run = ir_measures.read_trec_run(str(tmp_path / "runs" / "mono.trec.gz"))
        assert ("a" in [line.doc_id for line in run if line.query_id == "a"]) == (not excluded)


def test_contrastive_entropy_by_definition():
    task = parallel_task(questions=5)  # 15 passages a language: all are negatives but the relevant one
    queries, passages = random_vectors(task)
    rows = evaluate(task, queries, passages, ["CE"], 20).per_query.set_index([*KEYS[1:], "query_id"])
    for setting, query, corpus, judged, scores in rankings_by_definition(task, queries, passages):
        others = [s for p, s in scores.items() if p not in judged]
        losses = [np.logaddexp.reduce(np.array([scores[p], *others]) / 0.05) - scores[p] / 0.05 for p in judged]
        assert rows.loc[(query.lang, corpus, query.id), "CE"] == pytest.approx(np.mean(losses), rel=1e-5), setting


def test_contrastive_entropy_draws_the_same_256_negatives_by_seed():
    task = parallel_task(questions=200)
    vectors = random_vectors(task)
    first, again, other = (evaluate(task, *vectors, ["CE"], 20, seed=s).summary()["multi"]["CE"] for s in (0, 0, 1))
    assert first == again != other


def test_approximate_search_says_its_recall():
    task = parallel_task(questions=50)
    found = evaluate(task, *random_vectors(task, dim=8), ["P@5"], 5, index="hnsw")
    assert found.search["index"] == "hnsw"
    assert 0.5 < found.search["recall"] <= 1


def test_drops_say_how_many_queries_have_no_relevant_candidate():
    full = parallel_task(questions=4)
    qrels = {q: {p: g for p, g in grades.items() if not p.startswith("zh")} for q, grades in full.qrels.items()}
    task = RetrievalTask("t", full.queries, full.passages, qrels)
    drops = evaluate(task, *random_vectors(task), ["P@5"], 5).drops
    assert drops == {
        "mono: queries without a relevant candidate": 4,
        "cross: queries without a relevant candidate": 8,
    }


def test_refused():
    task = parallel_task()
    queries, passages = random_vectors(task)
    with pytest.raises(ConfigError, match="not a measure"):
        evaluate(task, queries, passages, ["Precision5"], 20)
    unjudged = RetrievalTask("t", task.queries, task.passages, {task.queries[0].id: {task.passages[0].id: 0}})
    with pytest.raises(DataError, match="no query has a relevant passage"):
        evaluate(unjudged, queries, passages, MEASURES, 20)


@pytest.mark.shared
@pytest.mark.slow
def test_xquad_r_has_the_papers_settings(shared):
    task = lareqa.read(str(shared / "data" / "xquad_r"))
    cells = evaluate(task, *random_vectors(task, dim=4), ["P@5", "R@20"], 5).cells()
    assert cells["setting"].value_counts().to_dict() == {"mono": 11, "cross": 110, "multi": 11}
    assert set(cells["n_queries"]) == {1190}
    assert not cells["n_dropped"].any()
