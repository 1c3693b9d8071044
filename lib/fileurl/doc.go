// Package fileurl reads what flags may name by a path or by an http or https URL.
//
// It knows no format.
package fileurl
