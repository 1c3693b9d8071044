// Package tenantlimits keeps tenants of a cluster within limits which a file sets: samples per second and active series at vminsert, running
// queries at vmselect. The file is read again when it changes, without a restart.
//
// Each process keeps the limits by itself: with n of them behind a balancer, a tenant gets n times the limit, but for active series, each of
// which comes to be known by all of them.
//
// Invariants:
//
//  1. A file which cannot be used keeps a process from starting, and changes nothing in one which runs.
//  2. What exceeds a limit is refused with a hint when to try again; nothing is dropped, unless the file says so. A write beyond samples per
//     second is refused whole, or, when labels name tenants, from the first batch on that has samples of a tenant beyond its limit.
//  3. Samples of an active series are never kept out for the sake of the limit of active series, which keeps new series out only.
//  4. Without a file, or for a tenant without limits, nothing is counted and no lock is taken.
//  5. Memory is bounded, whoever invents tenants. Series for which there is none come in uncounted.
//
// Locks, in the order they are taken: that of the sets of series, that of a set. The sets are not locked while one of them is swept.
package tenantlimits
