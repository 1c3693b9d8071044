// Package lineports opens the ports of the protocols which are not asked for at the port for HTTP: Graphite, Influx and OpenTSDB.
//
// It knows neither their formats nor what becomes of rows.
package lineports
