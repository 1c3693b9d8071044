package s3store

import (
	"errors"
	"net"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"vmcluster/lib/errkind"
)

// status returns the HTTP status of the answer that an error tells of, 0 if there was none.
func status(err error) int {
	if r, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return r.HTTPStatusCode()
	}
	return 0
}

// explain says what to do about an error of the service.
func (s *Store) explain(err error) error {
	if err == nil {
		return nil
	}
	var code string
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code = e.ErrorCode()
	}
	switch code {
	case "NoSuchKey":
		return errkind.New(errkind.NotFound, "there is no such object in bucket %q: %w", s.at.Bucket, err)
	case "NoSuchBucket":
		return errkind.New(errkind.BadRequest, "there is no bucket %q; create it, or correct its name or -customS3Endpoint: %w", s.at.Bucket, err)
	case "AccessDenied", "AllAccessDisabled", "AccountProblem":
		return errkind.New(errkind.Unauthorized, "the credentials are good, but lack a permission for bucket %q; docs/backups.md has the policy that is needed: %w", s.at.Bucket, err)
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "TokenRefreshRequired", "InvalidClientTokenId", "AuthorizationHeaderMalformed":
		return errkind.New(errkind.Unauthorized, "the service does not accept the credentials; check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION, or -credsFilePath, -configFilePath and -configProfile: %w", err)
	case "RequestTimeTooSkewed", "RequestExpired":
		return errkind.New(errkind.Unauthorized, "the clocks of this machine and of the service differ; set that of this machine: %w", err)
	case "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		return errkind.New(errkind.BadRequest, "bucket %q is in another region; set AWS_REGION to it: %w", s.at.Bucket, err)
	case "KMS.NotFoundException", "KMS.DisabledException", "KMS.KMSInvalidStateException":
		return errkind.New(errkind.BadRequest, "the key cannot be used; check -s3SSEKMSKeyId: %w", err)
	case "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "InvalidDigest":
		return errkind.New(errkind.Corrupt, "bytes have changed on their way; check memory and network of this machine: %w", err)
	}
	if status(err) == http.StatusForbidden {
		return errkind.New(errkind.Unauthorized, "the service refuses that; docs/backups.md has the policy that is needed: %w", err)
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return errkind.New(errkind.Unavailable, "there is no host %q; check the name of the bucket, -customS3Endpoint, -s3ForcePathStyle and the network: %w", e.Name, err)
	}
	return err
}
