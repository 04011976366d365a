/* Native lanes: so far the version of the binary interface alone; the lanes come with the npu device. */
int ort_rknn_lanes_abi(void) { return 0; }
