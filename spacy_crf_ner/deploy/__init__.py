"""A trained pipeline for a CPU server: its networks as ONNX graphs, with parity measured, and without torch."""
