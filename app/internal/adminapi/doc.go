// Package adminapi holds the HTTP routes of housekeeping that vmstorage and
// the single node share: /internal/force_flush and /internal/force_merge.
package adminapi
