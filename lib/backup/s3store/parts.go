package s3store

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"vmcluster/lib/backup"
	"vmcluster/lib/backup/objects"
	"vmcluster/lib/codec"
)

// checksum returns what tells the service the checksum of the bytes of a request: the CRC32C itself, or the name of another which the library
// computes while it sends.
func (s *Store) checksum(data []byte) (types.ChecksumAlgorithm, *string) {
	algorithm := s.algorithm()
	if algorithm != types.ChecksumAlgorithmCrc32c {
		return algorithm, nil
	}
	return algorithm, aws.String(base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, codec.Checksum(data))))
}

func (s *Store) algorithm() types.ChecksumAlgorithm {
	if s.o.Checksum == "" {
		return types.ChecksumAlgorithmCrc32c
	}
	return types.ChecksumAlgorithm(s.o.Checksum)
}

// upload is an object which is sent in parts.
type upload struct {
	s    *Store
	name string
	id   *string
	done []types.CompletedPart
}

// inParts begins an object, lets fill send its parts with checksums of a kind, if any, and completes it; or withdraws it.
func (s *Store) inParts(ctx context.Context, name string, checksums types.ChecksumAlgorithm, fill func(u *upload) error) error {
	var like s3.PutObjectInput
	s.describe(&like)
	begun, err := s.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &s.at.Bucket, Key: &name, ChecksumAlgorithm: checksums,
		Metadata: like.Metadata, Tagging: like.Tagging, StorageClass: like.StorageClass, ACL: like.ACL,
		ServerSideEncryption: like.ServerSideEncryption, SSEKMSKeyId: like.SSEKMSKeyId,
	})
	if err != nil {
		return s.explain(err)
	}
	u := &upload{s: s, name: name, id: begun.UploadId}
	if err = fill(u); err == nil {
		_, err = s.client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: &s.at.Bucket, Key: &name, UploadId: u.id, MultipartUpload: &types.CompletedMultipartUpload{Parts: u.done},
		})
		err = s.explain(err)
	}
	if err == nil {
		return nil
	}
	return errors.Join(err, u.withdraw(ctx))
}

// withdrawTimeout bounds what is done after a run has been cancelled.
const withdrawTimeout = 10 * time.Second

// withdraw lets the service forget the parts, also when the run has been cancelled.
func (u *upload) withdraw(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
	defer cancel()
	_, err := u.s.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.s.at.Bucket, Key: &u.name, UploadId: u.id})
	if err == nil || status(err) == http.StatusNotFound {
		return nil
	}
	return fmt.Errorf("cannot withdraw the parts of %q, which the bucket keeps until a lifecycle rule removes incomplete uploads: %w", u.name, u.s.explain(err))
}

func (u *upload) send(ctx context.Context, p objects.Part) error {
	in := &s3.UploadPartInput{
		Bucket: &u.s.at.Bucket, Key: &u.name, UploadId: u.id, PartNumber: aws.Int32(int32(p.Number + 1)),
		Body: p.Reader(p.Bytes), ContentLength: aws.Int64(int64(len(p.Bytes))),
	}
	in.ChecksumAlgorithm, in.ChecksumCRC32C = u.s.checksum(p.Bytes)
	out, err := u.s.client.UploadPart(ctx, in)
	if err != nil {
		return u.s.explain(err)
	}
	part := types.CompletedPart{
		PartNumber: in.PartNumber, ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC32C: out.ChecksumCRC32C,
		ChecksumCRC64NVME: out.ChecksumCRC64NVME, ChecksumSHA1: out.ChecksumSHA1, ChecksumSHA256: out.ChecksumSHA256,
	}
	u.done = append(u.done, part)
	return nil
}

// CopyFrom implements backup.Store.
func (s *Store) CopyFrom(ctx context.Context, from backup.Store, key string, size int64) (bool, error) {
	origin, ok := from.(*Store)
	if !ok || origin.o.Endpoint != s.o.Endpoint {
		return false, nil
	}
	name, source := s.at.Name(key), copySource(origin.at.Bucket, origin.at.Name(key))
	var err error
	if size > s.o.maxCopy {
		err = s.inParts(ctx, name, "", func(u *upload) error { return u.copy(ctx, source, size) })
	} else {
		in := &s3.CopyObjectInput{Bucket: &s.at.Bucket, Key: &name, CopySource: &source}
		var like s3.PutObjectInput
		s.describe(&like)
		in.StorageClass, in.ACL, in.ServerSideEncryption, in.SSEKMSKeyId = like.StorageClass, like.ACL, like.ServerSideEncryption, like.SSEKMSKeyId
		if in.Metadata = like.Metadata; len(in.Metadata) > 0 {
			in.MetadataDirective = types.MetadataDirectiveReplace
		}
		if in.Tagging = like.Tagging; in.Tagging != nil {
			in.TaggingDirective = types.TaggingDirectiveReplace
		}
		_, err = s.client.CopyObject(ctx, in)
		err = s.explain(err)
	}
	if status(err) == http.StatusNotImplemented {
		return false, nil
	}
	return err == nil, err
}

// copySource names an object as the service wants it.
func copySource(bucket, name string) string {
	escaped := strings.Split(name, "/")
	for i, e := range escaped {
		escaped[i] = strings.ReplaceAll(url.QueryEscape(e), "+", "%20")
	}
	return bucket + "/" + strings.Join(escaped, "/")
}

// copy lets the service copy an object range by range.
func (u *upload) copy(ctx context.Context, source string, size int64) error {
	step := objects.PartBytes(size, u.s.o.maxCopy/5, maxParts) // 1 GiB: a range of 5 takes the service minutes
	for offset := int64(0); offset < size; offset += step {
		in := &s3.UploadPartCopyInput{
			Bucket: &u.s.at.Bucket, Key: &u.name, UploadId: u.id, PartNumber: aws.Int32(int32(len(u.done) + 1)), CopySource: &source,
			CopySourceRange: aws.String(fmt.Sprintf("bytes=%d-%d", offset, min(size, offset+step)-1)),
		}
		out, err := u.s.client.UploadPartCopy(ctx, in)
		if err != nil {
			return u.s.explain(err)
		}
		part := types.CompletedPart{PartNumber: in.PartNumber}
		if r := out.CopyPartResult; r != nil {
			part.ETag = r.ETag
		}
		u.done = append(u.done, part)
	}
	return nil
}
