// Package rpclisten opens the ports at which a process takes connections of other nodes, and closes them in order.
//
// It knows none of the protocols.
package rpclisten
