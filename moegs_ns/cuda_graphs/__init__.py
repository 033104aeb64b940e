"""CUDA graphs: functions of tensors that are captured once and replayed."""
