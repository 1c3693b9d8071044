// Package selectapi holds the HTTP routes of reads: the Prometheus query API
// with MetricsQL, export, and what Grafana asks for. The cluster's vmselect
// serves them under /select/<tenant>/prometheus/, the single node at the root
// and under /prometheus.
//
// It parses arguments and writes JSON; evaluation is lib/query, data comes
// from a storageapi.Searcher.
//
// Invariants:
//
//  1. A request is about one tenant, or about all if it says so; who, is taken from its path or headers and
//     never from a query argument or a label.
//  2. Errors of the query API are JSON with errorType being the status code as
//     text; export and path errors are plain text.
//  3. An answer that may lack data says isPartial, or is refused; raw samples
//     are never answered partially.
package selectapi
