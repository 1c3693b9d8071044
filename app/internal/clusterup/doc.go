// Command clusterup starts a local cluster for people who want to look at it:
// two vmstorage, one vminsert and one vmselect on loopback, fed with the
// processes' own metrics. Ctrl-C stops everything in the right order. It is
// what `make cluster-up` runs.
package main
