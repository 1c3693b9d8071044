// Package tenantlimits keeps tenants of a cluster within limits which a file sets: samples per second at vminsert, running queries at
// vmselect. The file is read again when it changes, without a restart.
//
// Each process keeps the limits by itself: with n of them behind a balancer, a tenant gets n times the limit.
//
// Invariants:
//
//  1. A file which cannot be used keeps a process from starting, and changes nothing in one which runs.
//  2. What exceeds a limit is refused with a hint when to try again; nothing is dropped. A write is refused whole, or, when
//     labels name tenants, from the first batch on that has samples of a tenant beyond its limit.
//  3. Without a file, or for a tenant without limits, nothing is counted and no lock is taken.
//  4. Memory is bounded, whoever invents tenants.
package tenantlimits
