"""The vendor's runtime librknnrt: through ctypes, the native library, or rknn-toolkit-lite2."""
