// Package multitenant answers questions about all tenants at once: it finds out which tenants there are, asks the stores
// for one after the other, and puts the answers together. Questions about one tenant are passed on untouched.
//
// Series of such an answer have the labels vm_account_id and vm_project_id besides their own, in their place in the key. Filters may name
// these labels; they select tenants here and do not reach the stores. A label of these names which a series was stored with
// is called exported_vm_account_id or exported_vm_project_id there; filters and lists of names and values do not know it.
//
// It knows contracts only. What an iterator hands out aliases that of the stores, but for the key, which lies in a buffer of
// the iterator; both are valid until the next call of Next or Close.
//
// Invariants:
//
//  1. The answer is that of a search in each tenant, with the labels added and then filtered: to know tenants in advance
//     saves work and changes nothing.
//  2. Series come by tenant, and within a tenant in the order of the stores; each comes once. This is not the order of the new keys.
//  3. Limits are those of the whole answer.
//  4. An answer is partial when that of a tenant is, or when a tenant may be missing from the list; each node that failed is named once.
//  5. A list of tenants which may lack one is never kept.
//  6. No goroutine outlives a call, and memory does not grow with the samples: iterators of few tenants are open at a time.
package multitenant
