// Package zabbix reads the item values which a connector of Zabbix sends, a JSON object a line, and turns them into row batches.
//
//	{"host": {"host": "web1", "name": "Web server 1"}, "groups": ["Linux"], "item_tags": [{"tag": "component", "value": "cpu"}], "itemid": 4, "name": "CPU load", "clock": 1717200000, "ns": 500000000, "value": 0.25, "type": 0}
//
// The name of the item is that of the metric; the labels are host, hostname and tag_<tag>.
//
// Invariants:
//
//  1. A line which is not as above, or whose value is neither of the type float (0) nor unsigned (3), is counted and left out; all others are stored.
//  2. Memory is bounded by the limit of lines.
package zabbix
