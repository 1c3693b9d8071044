// Package promscript reads the scripts with which Prometheus tests its engine, for tests of ours.
//
// It knows the language of the scripts and nothing of what evaluates their queries. Native histograms are
// recognised, and become gaps. Values are not shared: what is returned belongs to the caller.
package promscript
