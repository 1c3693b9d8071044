// Command vmselect answers queries over HTTP at port 8481: it gathers the
// data from all storage nodes of a cluster and evaluates MetricsQL.
package main
