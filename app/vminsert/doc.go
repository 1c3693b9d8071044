// Command vminsert takes writes over HTTP at port 8480 and spreads them over
// the storage nodes of a cluster by a consistent hash of tenant, name and labels.
package main
