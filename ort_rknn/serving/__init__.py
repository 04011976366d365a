"""Serves models to other machines and programs: the Open Inference Protocol v2 as Triton speaks it.

One logic (:mod:`ort_rknn.serving.service`) behind two doors, gRPC and HTTP. Needs the extra ``ort-rknn[serve]``.
"""
