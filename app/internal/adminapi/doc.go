// Package adminapi holds the HTTP routes of housekeeping that vmstorage and
// the single node share: /internal/force_flush, /internal/force_merge,
// /internal/log_new_series and /snapshot/*.
package adminapi
