"""Conversions to int8: what is asked of the toolkit, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ort_rknn_converters.cache.key import key_of
from ort_rknn_converters.errors import CalibrationError, UnknownOption
from ort_rknn_converters.options import ConvertOptions
from ort_rknn_converters.pipeline.convert import convert
from ort_rknn_converters.rknn_format import reader
from ort_rknn_converters.targets import TARGETS
from tests.helpers.conversions import BODY, model
from tests.helpers.quantized import digit_samples, digits, qdq
from tests.helpers.toolkits.scripted import ScriptedToolkit

SAMPLES = np.random.default_rng(0).normal(size=(5, 1, 4, 8, 8)).astype(np.float32)
CUT = f"{BODY.replace('d = Conv (c, v)', 'k = Asinh (c) d = Conv (k, v)')}"


class TestRequests:
    def test_the_toolkit_gets_the_samples_and_the_algorithm(self, made: Any) -> None:
        fake = ScriptedToolkit()
        compiled = made(model(), fake, precision="int8", calibration={"x": SAMPLES}, quantized_algorithm="mmse")
        (request,) = fake.requests
        assert (request.precision, request.options["quantized_algorithm"]) == ("int8", "mmse")
        np.testing.assert_array_equal([sample["x"] for sample in request.options["dataset"]], SAMPLES)
        # Random numbers may lie outside the calibrated range: what was calibrated is what is verified.
        np.testing.assert_array_equal(request.feeds[0]["x"], SAMPLES[0])
        assert compiled.plan.precision == compiled.npu_steps[0].precision == "int8"

    def test_a_part_is_calibrated_on_what_comes_to_it(self, made: Any) -> None:
        fake = ScriptedToolkit()
        made(model(CUT), fake, precision="int8", calibration={"x": SAMPLES})
        requests = {sample: request for request in fake.requests for sample in request.options["dataset"][0]}
        assert set(requests) >= {"x", "k"}
        assert len(requests["k"].options["dataset"]) == len(SAMPLES)

    def test_groups_of_weights_are_of_32_by_default(self, made: Any) -> None:
        fake = ScriptedToolkit()
        fields = {"precision": "w4a16", "target": "rk3576", "quantized_method": "group"}
        made(model(), fake, calibration={"x": SAMPLES}, **fields)
        assert fake.requests[0].options["quantized_method"] == "group32"

    def test_fp16_needs_no_samples_and_gets_none(self, made: Any) -> None:
        fake = ScriptedToolkit()
        made(model(), fake, calibration={"x": SAMPLES})
        assert not fake.requests[0].options

    @pytest.mark.parametrize("precision", ["int8", "fp16"])
    def test_a_quantized_model_is_taken_as_it_is(self, made: Any, precision: str) -> None:
        fake = ScriptedToolkit()
        compiled = made(qdq(), fake, precision=precision)
        assert [request.precision for request in fake.requests] == ["fp16"]
        assert compiled.plan.npu_share == 1
        assert any("its own quantization" in note for note in compiled.plan.notes)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (None, "needs calibration data"),
            ([], "are empty"),
            ({"image": SAMPLES}, r"has image\. Expected for each sample: x float32 \[1, 4, 8, 8\]"),
            ({"x": SAMPLES[..., :4]}, r"x has shape \[5, 1, 4, 8, 4\]\. Expected"),
        ],
    )
    def test_bad_data_stop_the_conversion_before_the_toolkit(self, made: Any, data: Any, message: str) -> None:
        fake = ScriptedToolkit()
        with pytest.raises(CalibrationError, match=message):
            made(model(), fake, precision="int8", calibration=data)
        assert not fake.requests

    @pytest.mark.parametrize("target", [name for name, soc in TARGETS.items() if not soc.w4a16])
    def test_w4a16_names_the_socs_that_have_it(self, target: str) -> None:
        with pytest.raises(UnknownOption, match=f"not for {target}; the toolkit has it for rk3576, rv1126b"):
            ConvertOptions(target=target, precision="w4a16")

    def test_int8_is_not_for_rk2118(self) -> None:
        with pytest.raises(UnknownOption, match="int8 is not for rk2118"):
            ConvertOptions(target="rk2118", precision="int8")

    @pytest.mark.parametrize(
        "fields",
        [
            {"quantized_algorithm": "best"},
            {"quantized_method": "tensor"},
            {"quantized_method": "group32", "precision": "int8"},
            {"metric": "psnr"},
            {"max_loss": -1, "precision": "int8"},
            {"max_loss": 0.1},
            {"calibration_limit": 0},
        ],
    )
    def test_nonsense_is_refused_by_name(self, fields: dict[str, Any]) -> None:
        with pytest.raises(UnknownOption, match=next(iter(fields))):
            ConvertOptions(**fields)

    def test_the_key_is_of_the_data_not_of_their_place(self, tmp_path: Path) -> None:
        keys = []
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            np.save(tmp_path / folder / "0.npy", SAMPLES[0])
            keys.append(key_of(b"", ConvertOptions(precision="int8", calibration=tmp_path / folder)))
        assert keys[0] == keys[1]
        np.save(tmp_path / "b" / "0.npy", SAMPLES[1])
        assert key_of(b"", ConvertOptions(precision="int8", calibration=tmp_path / "b")) != keys[0]


@pytest.mark.toolkit
class TestRealToolkit:
    @pytest.mark.parametrize("algorithm", ["normal", "kl_divergence", "mmse"])
    def test_digits(self, tmp_path: Path, algorithm: str) -> None:
        fields: dict[str, Any] = {
            "calibration": {"image": digit_samples(20)},
            "known_failures": tmp_path,
            "min_gain": 0,
        }
        compiled = convert(digits(), precision="int8", quantized_algorithm=algorithm, **fields)
        assert compiled.plan.npu_share == 1
        worst = compiled.plan.segments[0].rel_rms
        assert worst is not None
        assert 1e-5 < worst < 0.05

    def test_four_bit_weights(self, tmp_path: Path) -> None:
        fields: dict[str, Any] = {
            "calibration": {"image": digit_samples(20)},
            "known_failures": tmp_path,
            "min_gain": 0,
        }
        compiled = convert(digits(), "rk3576", precision="w4a16", quantized_method="group", **fields)
        assert compiled.plan.npu_share == 1

    @pytest.mark.parametrize("dtype", [np.uint8, np.int8])
    def test_a_quantized_model_becomes_int8_code(self, tmp_path: Path, dtype: type[np.generic]) -> None:
        compiled = convert(qdq(dtype), known_failures=tmp_path, min_gain=0)
        (step,) = compiled.npu_steps
        convolutions = [
            tensor
            for node in reader.read_rknn(step.code["rk3588"].read()).nodes
            if node.op_type.startswith("Conv")
            for tensor in node.outputs
        ]
        tensors = reader.read_rknn(step.code["rk3588"].read()).tensors
        assert {tensors[name].dtype for name in convolutions} == {"int8"}
