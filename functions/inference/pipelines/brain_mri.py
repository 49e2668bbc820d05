"""Brain MRI: choose slices → detect → if a tumour, classify → with all four sequences, register and segment.

Order and conditions are those that the older brain-tumour system documented. Fewer than four sequences narrow the
pipeline, and the result says so.
"""

from typing import Any

import numpy as np

from functions.inference.outcome import FoundValue, Outcome
from functions.inference.pipelines import brain_files as files
from functions.inference.pipelines.brain_files import Sequences
from functions.inference.steps import REFUSED, Steps
from shared.imaging.slices import representative_slices
from shared.oip.client import InferResult
from shared.oip.errors import ModelRefused
from shared.storage.port import ObjectRef

DETECTION, CLASSIFICATION, SEGMENTATION = (
    "brain-tumor-detection",
    "brain-tumor-classification",
    "brain-tumor-segmentation",
)
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
REGIONS = {"wt": {1, 2, 3}, "tc": {1, 3}, "et": {3}}
REGION_NAMES = {"wt": "Whole tumour", "tc": "Tumour core", "et": "Enhancing tumour"}
DETECT_ON = ("flair", "t1ce", "t2", "t1")
CLASSIFY_ON = ("t1ce", "flair", "t2", "t1")
CANDIDATES = 5
"""Slices that detection sees; the most suspicious one decides."""
THRESHOLD = 0.5
EXTRACTED = "The skull was on: the brain was cut out automatically (deepbet) before segmentation; check the mask's edge."


def run(steps: Steps) -> Outcome:
    """All steps for one study."""
    sequences = files.sequences_of(steps.study)
    outcome = steps.outcome
    outcome.results["modalities"] = {
        name: {"source": file.details["modality_source"], "confidence": file.details["modality_confidence"]}
        for name, file in sequences.items()
    }
    _warn_of_guesses(steps, sequences)
    slices = _choose_slices(steps, sequences)
    detected = _detect(steps, sequences, slices)
    if detected["tumour"]:
        _classify(steps, sequences, detected)
    else:
        steps.skip("classify", "no tumour was detected")
    if len(sequences) == len(DETECT_ON):
        _segment(steps, sequences, detected)
    else:
        steps.skip("segment", "needs T1, T1CE, T2, FLAIR")
        _draw_slice(steps, sequences, detected)
    return outcome


def _choose_slices(steps: Steps, sequences: Sequences) -> dict[str, Any]:
    modality = next(name for name in DETECT_ON if name in sequences)

    def compute() -> dict[str, Any]:
        volume = steps.read(files.ref_of(sequences[modality]))
        return {"modality": modality, "indices": representative_slices(volume, CANDIDATES)}

    return steps.run("choose-slices", 15, {"file": sequences[modality].sha256, "count": CANDIDATES}, compute)


def _detect(steps: Steps, sequences: Sequences, slices: dict[str, Any]) -> dict[str, Any]:
    file = sequences[slices["modality"]]

    def compute() -> dict[str, Any]:
        images = files.slice_stack(steps.read(files.ref_of(file)), slices["indices"])
        answer = steps.client.infer(DETECTION, {"image": images}, version=steps.version_of(DETECTION))
        chances = _probabilities(answer)[:, 1]
        best = int(chances.argmax())
        return {
            "modality": slices["modality"],
            "index": slices["indices"][best],
            "probability": float(chances[best]),
            "tumour": bool(chances[best] >= THRESHOLD),
        }

    found = steps.run("detect", 25, {"file": file.sha256, **slices}, compute, model=DETECTION)
    steps.outcome.results["slice"] = {"modality": found["modality"], "index": found["index"]}
    steps.outcome.findings.append(
        FoundValue(
            "tumour",
            "Tumour present",
            DETECTION,
            steps.version_of(DETECTION),
            value="yes" if found["tumour"] else "no",
            probability=found["probability"],
        )
    )
    return found


def _classify(steps: Steps, sequences: Sequences, detected: dict[str, Any]) -> None:
    modality = next(name for name in CLASSIFY_ON if name in sequences)
    file = sequences[modality]
    index = files.matching_slice(sequences[detected["modality"]], detected["index"], file)

    def compute() -> dict[str, Any]:
        images = files.slice_stack(steps.read(files.ref_of(file)), [index])
        answer = steps.client.infer(
            CLASSIFICATION, {"image": images}, version=steps.version_of(CLASSIFICATION)
        )
        chances = _probabilities(answer)[0]
        return {"probabilities": dict(zip(CLASSES, chances.tolist(), strict=True))}

    inputs = {"file": file.sha256, "index": index}
    chances = steps.run("classify", 40, inputs, compute, model=CLASSIFICATION)["probabilities"]
    if modality != "t1ce":
        steps.warn(f"The tumour type was told from {modality.upper()}; the model was made for T1CE.")
    version = steps.version_of(CLASSIFICATION)
    best = max(chances, key=chances.__getitem__)
    if best == "notumor":
        steps.warn("Detection and classification disagree on whether there is a tumour.")
    found = [
        FoundValue(
            "tumour-type", "Tumour type", CLASSIFICATION, version, value=best, probability=chances[best]
        )
    ]
    for name in CLASSES:
        display = "Probability: no tumour" if name == "notumor" else f"Probability: {name}"
        found.append(
            FoundValue(
                f"type-probability-{name}", display, CLASSIFICATION, version, probability=chances[name]
            )
        )
    steps.outcome.findings.extend(found)


def _segment(steps: Steps, sequences: Sequences, detected: dict[str, Any]) -> None:
    inputs = files.on_one_grid(steps, sequences)
    hashes = {name: ref.sha256 for name, ref in inputs.items()}

    def compute() -> dict[str, Any]:
        try:
            answer = steps.client.infer(
                SEGMENTATION,
                inputs,
                version=steps.version_of(SEGMENTATION),
                output_prefix=f"object://studies/{steps.prefix}",
            )
        except ModelRefused as error:  # detection and classification are still worth a report
            return {REFUSED: error.detail}
        mask = files.object_output(answer, "label_map").model_dump(mode="json")
        return {"mask": mask, "brain_extracted": _brain_extracted(answer)}

    segmented = steps.run("segment", 50, hashes, compute, model=SEGMENTATION)
    if REFUSED in segmented:
        _draw_slice(steps, sequences, detected)
        return
    if segmented["brain_extracted"]:
        steps.warn(EXTRACTED)
    _report_mask(steps, inputs["flair"], segmented["mask"], detected)


def _report_mask(steps: Steps, background: ObjectRef, mask: dict[str, Any], detected: dict[str, Any]) -> None:
    files.add_file(steps, "mask", "application/gzip", "tumour-mask.nii.gz", mask)
    measured = _measure_and_draw(steps, background, mask)
    version = steps.version_of(SEGMENTATION)
    for region, display in REGION_NAMES.items():
        steps.outcome.findings.append(
            FoundValue(
                f"volume-{region}",
                f"{display} volume",
                SEGMENTATION,
                version,
                number=measured["volumes_ml"][region],
                unit="mL",
                geometry="mask",
            )
        )
    if measured["diameter_mm"] is not None:
        steps.outcome.findings.append(
            FoundValue(
                "diameter-wt",
                "Whole tumour, longest axial diameter",
                SEGMENTATION,
                version,
                number=measured["diameter_mm"],
                unit="mm",
                geometry="mask",
            )
        )
    if detected["tumour"] != (measured["volumes_ml"]["wt"] > 0):
        steps.warn("Detection and segmentation disagree on whether there is a tumour.")


def _measure_and_draw(steps: Steps, background: Any, mask: dict[str, Any]) -> dict[str, Any]:
    def compute() -> dict[str, Any]:
        return files.measure_and_draw(steps, background, mask, REGIONS)

    measured = steps.run("measure", 85, {"mask": mask["sha256"], "background": background.sha256}, compute)
    for role, filename in (("overlay", "overlay.png"), ("overlay-montage", "overlay-montage.png")):
        files.add_file(steps, role, "image/png", filename, measured[role])
    return measured


def _draw_slice(steps: Steps, sequences: Sequences, detected: dict[str, Any]) -> None:
    file, index = sequences[detected["modality"]], detected["index"]

    def compute() -> dict[str, Any]:
        return {"slice": files.draw_slice(steps, file, index)}

    made = steps.run("draw", 80, {"file": file.sha256, "index": index}, compute)
    files.add_file(steps, "slice", "image/png", "slice.png", made["slice"])


def _warn_of_guesses(steps: Steps, sequences: Sequences) -> None:
    for name, file in sequences.items():
        if file.details["modality_source"] == "image":
            sure = file.details["modality_confidence"]
            steps.warn(f"One file was taken for {name.upper()} by its look alone ({sure:.0%} sure).")
        if file.details["affine_source"] == "pixdim":
            steps.warn(f"{name.upper()} does not say how it lies in the patient: left and right are a guess.")


def _brain_extracted(answer: InferResult) -> bool:
    """Whether the model says so; one that does not know the output leaves the skull to its caller."""
    return bool(np.any(np.asarray(answer.outputs.get("brain_extracted", 0)) != 0))


def _probabilities(answer: InferResult) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(answer.outputs["probabilities"], dtype=np.float64)
