// Package readside wires the read APIs which vmselect and the single node share: the query API, PromQL, Graphite and
// remote read, with one query engine, one set of limits and one queue for all of them. A route or a flag of reads
// that is added here is in both binaries.
//
// It knows contracts of the stores only: whether they are in this process or behind connections is what the binary says.
package readside
