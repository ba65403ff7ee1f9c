"""S3 endpoints and buckets for the tests."""

from s3_fixtures import bucket, real_bucket, real_s3, s3_endpoint

__all__ = ["bucket", "real_bucket", "real_s3", "s3_endpoint"]
