"""A method looks the same everywhere, and unlike every other."""

import itertools

import numpy as np
import pytest
from conftest import analyse
from simulated_study import SimulatedStudy

from clirscale.report.style import METHODS, OTHERS, assign

# Machado, Oliveira & Fernandes (2009), severity 1; applied to linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour):
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return TO_XYZ[1] @ linear(colour)


def lab(rgb):
    x, y, z = np.cbrt(TO_XYZ @ np.clip(rgb, 1e-3, 1) / TO_XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_methods_are_told_apart(vision):
    seen = {method: lab(np.asarray(VISION[vision]) @ linear(colour)) for method, (colour, _) in METHODS.items()}
    for a, b in itertools.combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 15, (a, b)


@pytest.mark.parametrize("colour", [colour for colour, _ in (*METHODS.values(), *OTHERS)])
def test_contrast_with_white_is_at_least_three_to_one(colour):
    assert 1.05 / (luminance(colour) + 0.05) >= 3


def test_a_method_keeps_its_look_from_study_to_study(main_analysis, seeds_analysis):
    first, second = assign(main_analysis.arrangement), assign(seeds_analysis.arrangement)
    assert first.keys() < second.keys()
    assert all(second[key] == style for key, style in first.items())
    assert len(set(second.values())) == len(second)


def test_variants_share_marker_but_not_colour(tmp_path):
    study = SimulatedStudy(tmp_path, n_groups=3, languages=("de", "en"))
    for alpha in (0.0, 0.3, 0.7, 1.0):
        study.job("hybrid", 1.0, config={"method.alpha": alpha})
    styles = assign(analyse(tmp_path).arrangement)
    assert {style.marker for style in styles.values()} == {"o"}
    assert len({style.colour for style in styles.values()}) == 4
    darkness = [luminance(styles["hybrid", f"hybrid, alpha={alpha}"].colour) for alpha in ("0", "0.3", "0.7", "1")]
    assert darkness == sorted(darkness, reverse=True)


def test_unknown_methods_get_looks_of_their_own(tmp_path):
    study = SimulatedStudy(tmp_path, n_groups=3, languages=("de", "en"))
    for method in ("hybrid", "mine", "yours"):
        study.job(method, 1.0)
    styles = assign(analyse(tmp_path).arrangement)
    assert len({(style.colour, style.marker) for style in styles.values()}) == 3
