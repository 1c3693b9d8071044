// Package exposition reads the Prometheus text exposition format and OpenMetrics
// text, line by line, and turns them into row batches.
//
//	name{label="value",...} value [timestamp] [# exemplar]
//	{"quoted name","quoted label"="value"} value [timestamp]
//
// Comments, HELP, TYPE, UNIT and EOF lines are skipped. Timestamps are milliseconds;
// those below 2^31 are taken for the seconds of OpenMetrics. Within label values
// \\, \" and \n are escapes; other backslashes stand for themselves.
//
// Invariants:
//
//  1. A line which cannot be parsed is counted, and all other lines are stored.
//  2. Memory is bounded by the longest line allowed.
package exposition
