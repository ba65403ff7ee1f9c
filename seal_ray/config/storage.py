"""How a run is kept."""

from pydantic import Field

from seal_ray.config.section import LONGEST, HttpUrl, Section


class StorageSection(Section):
    endpoint: HttpUrl = Field(default="", description="URL of an S3 look-alike (MinIO, R2, Ceph)")
    region: str = Field(default="", description="region of the bucket")
    profile: str = Field(
        default="", description="profile in the AWS configuration; credentials come from the usual places"
    )
    encryption: str = Field(default="", description="server-side encryption: AES256 or aws:kms")
    kms_key: str = Field(default="", description="key for aws:kms")
    patience: float = Field(
        default=180, ge=0, le=LONGEST, description="seconds for which a store that does not answer is waited for"
    )
    timeout: float = Field(default=30, gt=0, le=LONGEST, description="seconds for one operation")
    parallel: int = Field(default=16, ge=1, le=256, description="writes at once")
    segment_seconds: float = Field(default=2, gt=0, description="a segment is closed after this long")
    segment_bytes: int = Field(default=1_000_000, ge=1000, description="a segment is closed at this size")
    lease: float = Field(
        default=60, gt=0, le=LONGEST, description="seconds after which a driver that shows no life may be replaced"
    )
    shared: bool = Field(default=False, description="a local folder that every node sees (NFS, Lustre)")
    stop_within: float = Field(default=2.5, gt=0, le=LONGEST, description="seconds to wind up after SIGTERM")
