// Package relabeldebug shows what relabelling rules do to a series step by step, as a page for people and as JSON.
//
// It keeps nothing and starts nothing; the routes of the read API call it.
//
// Invariants:
//
//  1. Whatever is asked, labels and rules are escaped where they stand in HTML.
//  2. JSON has the shape that clients of the system we replace know: labels in it are pieces of HTML.
package relabeldebug
