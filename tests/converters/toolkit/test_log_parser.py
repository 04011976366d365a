"""Reading what the toolkit printed."""

from __future__ import annotations

from ort_rknn_converters.toolkit import log_parser
from ort_rknn_converters.toolkit.failures import sentence

COLUMNS = (
    "ID",
    "OpType",
    "DataType",
    "Target",
    "InputShape",
    "OutputShape",
    "Cycles(DDR/NPU/Total)",
    "RW(KB)",
    "FullName",
)
WIDTHS = (5, 14, 9, 7, 20, 12, 22, 7, 20)


def row(*cells: object) -> str:
    text = "".join(f"{cell!s:<{width}}" for cell, width in zip(cells, WIDTHS, strict=True))
    return f"D RKNN: [08:15:08.360] {text}\n"


def table(*rows: str) -> str:
    rule = "D RKNN: [08:15:08.360] " + "-" * 120 + "\n"
    title = "D RKNN: [08:15:08.360]               Network Layer Information Table\n"
    return rule + title + rule + row(*COLUMNS) + rule + "".join(rows) + rule


LOG = (
    "I rknn-toolkit2 version: 2.5.0\n"
    "\x1b[1;33mW\x1b[0m \x1b[1;33mload_onnx: The config.mean_values is None\x1b[0m\n"
    "No lowering found for: /a b/Selu_output_0, node type = Selu, use CustomOperatorLower instead.\n"
    "No lowering found for: y, node type = Det, use CustomOperatorLower instead.\n"
    "No lowering found for: y, node type = Det, use CustomOperatorLower instead.\n"
    + table(
        row(0, "InputOperator", "FLOAT16", "CPU", "\\", "(1,3,8,8)", "0/0/0", 0, "InputOperator:x"),
        row(1, "ConvRelu", "FLOAT16", "NPU", "(1,3,8,8),(3,3,1,1)", "(1,3,8,8)", "62/128/128", 0, ""),
        row(2, "Add", "INT8", "NPU", "(1,3,8,8)", "(1,3,8,8)", "12345678/0/12345678", 1.5, "Add:a b/y"),
    )
    + "D RKNN: [08:15:08.360] ID  User           Tensor      DataType\n"
    "D RKNN: [08:15:08.360] 1   Conv           x           FLOAT16\n"
    + table(row(0, "InputOperator", "FLOAT16", "CPU", "\\", "(2,3,8,8)", "0/0/0", 0, "InputOperator:x"))
    + "E RKNN: [08:15:08.362] Unkown op target: 0\n"
    "E build: Catch exception when building RKNN model!\n"
)


def test_a_long_op_moves_what_follows_it() -> None:
    name, shapes = "BatchNormalizationRelu", "(1,16,46,68),(16),(16),(16),(16)"
    long = f"{2:<5}{name} FLOAT16  NPU    {shapes:<20} (1,16,46,68) 0/0/0                 97     Batch:u_{name}"
    short = row(3, "Add", "FLOAT16", "CPU", "\\", "(1,3,8,8)", "0/0/0", 0, "Add:x")
    rows = log_parser.layers(table(f"D RKNN: [08:15:08.360] {long}\n", short))
    assert [(row.op_type, row.dtype, row.target) for row in rows] == [
        (name, "FLOAT16", "NPU"),
        ("Add", "FLOAT16", "CPU"),
    ]
    assert (rows[0].input_shape, rows[0].output_shape) == (shapes, "(1,16,46,68)")
    assert (rows[0].cycles, rows[0].rw_kb, rows[0].name) == ((0, 0, 0), 97.0, f"Batch:u_{name}")


def test_layers_of_the_first_table() -> None:
    rows = log_parser.layers(log_parser.clean(LOG))
    assert [(row.id, row.op_type, row.dtype, row.target, row.name) for row in rows] == [
        (0, "InputOperator", "FLOAT16", "CPU", "InputOperator:x"),
        (1, "ConvRelu", "FLOAT16", "NPU", ""),
        (2, "Add", "INT8", "NPU", "Add:a b/y"),
    ]
    assert rows[1].cycles == (62, 128, 128)
    assert rows[1].input_shape == "(1,3,8,8),(3,3,1,1)"
    assert rows[2].rw_kb == 1.5


def test_no_table_no_layers() -> None:
    assert log_parser.layers("") == ()
    assert log_parser.layers("Network Layer Information Table\nnonsense\nID OpType\nx y z\n") == ()


def test_ops_without_code_once_each() -> None:
    assert log_parser.no_lowering(LOG) == (("/a b/Selu_output_0", "Selu"), ("y", "Det"))


def test_errors_of_a_file_that_was_delivered() -> None:
    line = "E RKNN: [08:43:36.984] REGTASK: The bit width of field value exceeds the limit, value: 0x20cf\n"
    assert log_parser.errors(line + "D RKNN: [1] fine\n" + line) == (
        "REGTASK: The bit width of field value exceeds the limit, value: 0x20cf",
    )
    assert log_parser.errors("") == ()


def test_last_error_is_not_the_noise() -> None:
    assert log_parser.last_error(log_parser.clean(LOG)) == "build: Catch exception when building RKNN model!"
    assert log_parser.last_error("E RKNN: [1:2] Unkown op target: 0") == ""


def test_last_words_before_a_crash() -> None:
    log = "D RKNN: [08:15:08.360] >>>>>> start: OpEmit\nE RKNN: [08:15:08.360] Unkown op target: 0\n\n"
    log += "Fatal Python error: Segmentation fault\n  File worker.py\nExtension modules: numpy\n"
    assert log_parser.last_words(log) == ">>>>>> start: OpEmit"
    assert log_parser.tail(log).endswith("File worker.py")


def test_colours_go() -> None:
    assert "\x1b" not in log_parser.clean(LOG)


def test_the_message_at_the_end_of_a_traceback() -> None:
    text = """Traceback (most recent call last):
      File "rknn/api/rknn_log.py", line 344, in rknn.api.rknn_log.error_catch_decorator.error_catch_wrapper
    KeyError: 'x'
      File "rknn/api/ir_graph.py", line 1
    onnxruntime.capi.onnxruntime_pybind11_state.Fail: [ONNXRuntimeError] : 1 : FAIL : Load model failed:
    in node y
    """
    assert sentence(text) == (
        "onnxruntime.capi.onnxruntime_pybind11_state.Fail: [ONNXRuntimeError] : 1 : FAIL : Load model failed: in node y"
    )
    assert sentence("The input shape is wrong!\n") == "The input shape is wrong!"
    assert sentence("") == ""
