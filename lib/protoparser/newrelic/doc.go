// Package newrelic reads the JSON which the infrastructure agent of New Relic sends and turns it into row batches.
//
//	[{"Events": [{"eventType": "SystemSample", "timestamp": 1717200000, "entityKey": "host", "cpuPercent": 25.05}]}]
//
// Each number of an event makes a sample of the series with its name and the texts of the event as labels. All other values are left alone.
// Timestamps are seconds or milliseconds, told by their size; an event without one has the second at which it came.
//
// Invariants:
//
//  1. Nothing of a body which is not JSON is stored. An event which is not as above is counted and left out, and all others are stored.
//  2. Memory is bounded by the size limit of bodies: events are read where they are.
package newrelic
