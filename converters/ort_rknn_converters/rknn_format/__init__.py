"""The vendor's .rknn file, read without the vendor's software."""
