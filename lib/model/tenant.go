package model

import (
	"cmp"
	"encoding/binary"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
)

// TenantID names one of the isolated data sets of a cluster.
type TenantID struct {
	AccountID uint32
	ProjectID uint32
}

// The labels which name the tenant of a series where series of many tenants meet. Their values are decimal numbers.
const (
	AccountLabel = "vm_account_id"
	ProjectLabel = "vm_project_id"
)

// TenantSize is the number of bytes a tenant takes at the start of a series key.
const TenantSize = 8

// String returns accountID:projectID.
func (t TenantID) String() string {
	return strconv.FormatUint(uint64(t.AccountID), 10) + ":" + strconv.FormatUint(uint64(t.ProjectID), 10)
}

// Compare orders tenants by account, then project.
func (t TenantID) Compare(u TenantID) int {
	if c := cmp.Compare(t.AccountID, u.AccountID); c != 0 {
		return c
	}
	return cmp.Compare(t.ProjectID, u.ProjectID)
}

// AppendTo appends the 8 bytes of the tenant as they stand in a series key.
func (t TenantID) AppendTo(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, t.AccountID)
	return binary.BigEndian.AppendUint32(dst, t.ProjectID)
}

// ParseTenantID parses accountID or accountID:projectID, each a decimal number
// in 0..2^32-1; a missing project is 0. The error is of kind BadRequest.
func ParseTenantID(s string) (TenantID, error) {
	account, project, hasProject := strings.Cut(s, ":")
	a, err := strconv.ParseUint(account, 10, 32)
	if err != nil {
		return TenantID{}, errkind.New(errkind.BadRequest, "cannot parse accountID of tenant %q: want a number in 0..4294967295: %w", s, err)
	}
	t := TenantID{AccountID: uint32(a)}
	if hasProject {
		p, err := strconv.ParseUint(project, 10, 32)
		if err != nil {
			return TenantID{}, errkind.New(errkind.BadRequest, "cannot parse projectID of tenant %q: want a number in 0..4294967295: %w", s, err)
		}
		t.ProjectID = uint32(p)
	}
	return t, nil
}
