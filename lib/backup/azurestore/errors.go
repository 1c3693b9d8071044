package azurestore

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"vmcluster/lib/errkind"
)

// retryDelay is the first pause between attempts.
const retryDelay = 500 * time.Millisecond

// refusal is an answer of the service in few words; the library's is a page, with headers.
type refusal struct {
	status int
	code   string
}

func (r *refusal) Error() string {
	return fmt.Sprintf("the service answers %d %s", r.status, r.code)
}

// explain says what to do about an error of the service, without the arguments of URLs, among which may be a signature.
func (s *Store) explain(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return s.explainAnswer(&refusal{status: e.StatusCode, code: e.ErrorCode})
	}
	if e, ok := errors.AsType[*azidentity.AuthenticationFailedError](err); ok {
		return errkind.New(errkind.Unauthorized, "no identity is accepted; set %s or %s, or give the machine or pod an identity: %w", envConnection, envKey, e)
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return errkind.New(errkind.Unavailable, "there is no host %q; check %s, %s and the network: %w", e.Name, envAccount, envDomain, e)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("cannot reach the service: %w", e.Err)
	}
	return err
}

func (s *Store) explainAnswer(r *refusal) error {
	switch bloberror.Code(r.code) {
	case bloberror.ContainerNotFound, bloberror.ContainerBeingDeleted, bloberror.ContainerDisabled:
		return errkind.New(errkind.BadRequest, "there is no container %q; create it, or correct its name: %w", s.at.Bucket, r)
	case bloberror.AuthenticationFailed, bloberror.InvalidAuthenticationInfo, bloberror.NoAuthenticationInformation:
		return errkind.New(errkind.Unauthorized, "the service does not accept the credentials; check %s or %s, and the clock of this machine: %w", envConnection, envKey, r)
	case bloberror.MD5Mismatch, bloberror.CRC64Mismatch:
		return errkind.New(errkind.Corrupt, "bytes have changed on their way; check memory and network of this machine: %w", r)
	}
	switch r.status {
	case http.StatusNotFound:
		return errkind.New(errkind.NotFound, "there is no such blob in container %q: %w", s.at.Bucket, r)
	case http.StatusForbidden:
		return errkind.New(errkind.Unauthorized, "the identity lacks a permission for container %q; docs/backups.md has the role that is needed: %w", s.at.Bucket, r)
	case http.StatusUnauthorized:
		return errkind.New(errkind.Unauthorized, "the service does not accept the credentials; check %s or %s: %w", envConnection, envKey, r)
	}
	return r
}
