// Command dashboards writes the Grafana dashboards of deployment/dashboards, so that they look alike and are kept as a few lines a panel:
//
//	go run ./app/internal/dashboards -out deployment/dashboards
//
// A test compares what it writes with the files that are there. That every query finds something is tested in app/apptest.
//
// Invariants:
//
//  1. Queries are PromQL, so that any database with the metrics will do, and use only metrics which a process of ours has.
//  2. Every panel says what is normal and what to do when it is not.
//  3. Panels do not overlap and lie within the 24 columns; the layout follows from their order and width.
package main
