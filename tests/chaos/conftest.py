"""The chaos tests of storage use the S3 servers and the recorded round of the S3 tests."""

from s3_fixtures import bucket, real_bucket, real_s3, s3_endpoint

__all__ = ["bucket", "real_bucket", "real_s3", "s3_endpoint"]
