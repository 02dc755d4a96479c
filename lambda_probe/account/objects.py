"""Objects for S3 work: there before a function downloads them, and hardly anything of them uploaded."""

from __future__ import annotations

from typing import Any

SEED_BYTES = 16 * 2**20  # uploaded at most; a part of an upload has 5 MiB at least


def put_zeros(s3: Any, bucket: str, key: str, size_bytes: int) -> None:
    """Make an object of so many zero bytes; a large one S3 copies together out of a smaller one.

    Raises what boto3 raises.
    """
    if size_bytes <= SEED_BYTES:
        s3.put_object(Bucket=bucket, Key=key, Body=bytes(size_bytes))
        return
    parts, rest = divmod(size_bytes, SEED_BYTES)
    seed = f"{key}.seed"
    s3.put_object(Bucket=bucket, Key=seed, Body=bytes(SEED_BYTES))
    upload = {"Bucket": bucket, "Key": key}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    done = []
    for number in range(1, parts + 1):
        got = s3.upload_part_copy(**upload, PartNumber=number, CopySource={"Bucket": bucket, "Key": seed})
        done.append({"PartNumber": number, "ETag": got["CopyPartResult"]["ETag"]})
    if rest:  # the last part may be small
        got = s3.upload_part(**upload, PartNumber=parts + 1, Body=bytes(rest))
        done.append({"PartNumber": parts + 1, "ETag": got["ETag"]})
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": done})
    s3.delete_object(Bucket=bucket, Key=seed)
