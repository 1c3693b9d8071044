// Command vmstorage keeps the data of a cluster: it takes samples from
// vminsert at port 8400, answers vmselect at port 8401, and serves metrics and
// housekeeping over HTTP at port 8482. It knows no other node.
package main
