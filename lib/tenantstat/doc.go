// Package tenantstat writes metrics by tenant, by which tenants are watched and billed. A tenant is counted from its first
// request on; there are as many of them as a process is asked for, up to a bound, beyond which they are counted together.
//
// It knows metrics and nothing of what is counted.
package tenantstat
