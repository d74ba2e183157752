"""Failure codes of the wire. Text is for people; these are for programs. Codes are added, never renamed."""

from enum import StrEnum


class FailureCode(StrEnum):
    # cameras
    CAMERA_ABSENT = "camera-absent"
    CAMERA_LOST = "camera-lost"
    CAMERA_FROZEN = "camera-frozen"
    CAMERA_SIZE_CHANGED = "camera-size-changed"
    CAMERA_ENDED = "camera-ended"
    # models and the NPU
    MODEL_MISSING = "model-missing"
    MODEL_INVALID = "model-invalid"
    MODEL_WRONG_TARGET = "model-wrong-target"
    MODEL_TOO_NEW = "model-too-new"
    MODEL_DIGEST_MISMATCH = "model-digest-mismatch"
    RUNTIME_MISSING = "runtime-missing"
    RUNTIME_TOO_OLD = "runtime-too-old"
    NPU_FAULT = "npu-fault"
    NPU_TIMEOUT = "npu-timeout"
    NPU_HUNG = "npu-hung"
    NPU_CRASHED = "npu-crashed"
    NPU_OUT_OF_MEMORY = "npu-out-of-memory"
    NPU_CORE_OUT = "npu-core-out"
    SHAPE_MISMATCH = "shape-mismatch"
    # storage
    SPOOL_FULL = "spool-full"
    SPOOL_CORRUPT = "spool-corrupt"
    DISK_FULL = "disk-full"
    # messages
    BROKER_UNREACHABLE = "broker-unreachable"
    NOT_AUTHORIZED = "not-authorized"
    PUBLISH_REJECTED = "publish-rejected"
    MESSAGE_TOO_LARGE = "message-too-large"
    MESSAGE_MALFORMED = "message-malformed"
    COMMAND_UNKNOWN = "command-unknown"
    COMMAND_INVALID = "command-invalid"
    COMMAND_EXPIRED = "command-expired"
    # updates
    STALE_GENERATION = "stale-generation"
    DOWNLOAD_FAILED = "download-failed"
    SIGNATURE_INVALID = "signature-invalid"
    SELF_TEST_FAILED = "self-test-failed"
    SHADOW_DISAGREED = "shadow-disagreed"
    PROBATION_FAILED = "probation-failed"
    CRASH_LOOP = "crash-loop"
    JOURNAL_CORRUPT = "journal-corrupt"
    # jobs
    JOB_TIMED_OUT = "job-timed-out"
    UPLOAD_FAILED = "upload-failed"
    CANCELED = "canceled"
    # the rest
    CONFIG_INVALID = "config-invalid"
    CLOCK_UNSYNCED = "clock-unsynced"
    TEMPERATURE_HIGH = "temperature-high"
    INTERNAL = "internal"
