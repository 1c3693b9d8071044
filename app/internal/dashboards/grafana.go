package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// panel is a graph, a number or a table.
type panel struct {
	title, about string // about: what is normal, and what to do
	unit         string // of Grafana
	kind         string // timeseries when empty
	width        int    // columns; 12 when 0
	max          float64
	queries      []query
}

type query struct{ expr, legend string }

// row is a heading with the panels below it.
type row struct {
	title  string
	closed bool
	panels []panel
}

// variable is a choice at the top of the dashboard.
type variable struct {
	name, label string
	of          string // label_values(...)
}

type dashboard struct {
	file, uid, title, about string
	variables               []variable
	rows                    []row
}

// object is a JSON object; encoding/json sorts its keys, so the files are always the same.
type object map[string]any

const columns, graphHeight, statHeight = 24, 8, 4

func source() object { return object{"type": "prometheus", "uid": "${ds}"} }

// render returns the dashboard as Grafana imports it.
func (d *dashboard) render() ([]byte, error) {
	l := layout{}
	for i := range d.rows {
		l.addRow(&d.rows[i])
	}
	out, err := json.MarshalIndent(object{
		"uid": d.uid, "title": d.title, "description": d.about, "tags": []string{"victoriametrics"},
		"schemaVersion": 39, "version": 1, "editable": true, "graphTooltip": 1, "refresh": "30s", "timezone": "",
		"time": object{"from": "now-1h", "to": "now"}, "timepicker": object{}, "annotations": object{"list": []object{restarts()}},
		"links":      []object{{"title": "Dashboards", "type": "dashboards", "tags": []string{"victoriametrics"}, "asDropdown": true, "includeVars": true, "keepTime": true}},
		"templating": object{"list": d.templating()}, "panels": l.panels,
	}, "", "  ")
	return append(out, '\n'), err
}

// restarts marks starts of processes in all graphs.
func restarts() object {
	return object{
		"name": "Starts", "datasource": source(), "enable": true, "iconColor": "orange", "titleFormat": "start",
		"expr": `changes(vm_app_start_timestamp{job=~"$job", instance=~"$instance"}[$__interval]) > 0`, "textFormat": "{{job}} {{instance}}",
	}
}

func (d *dashboard) templating() []object {
	list := []object{{"name": "ds", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1, "hide": 0, "options": []any{}, "current": object{}}}
	for _, v := range d.variables {
		list = append(list, object{
			"name": v.name, "label": v.label, "type": "query", "datasource": source(), "query": object{"query": v.of, "refId": v.name}, "definition": v.of,
			"refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*", "current": object{"text": "All", "value": "$__all"}, "hide": 0, "options": []any{},
		})
	}
	return append(list, object{"name": "adhoc", "label": "Filters", "type": "adhoc", "datasource": source(), "filters": []any{}, "hide": 0})
}

// layout places panels from left to right and from top to bottom.
type layout struct {
	panels  []object
	x, y, h int // the next place, and the height of the line of panels
	id      int
}

func (l *layout) newLine() {
	l.x, l.y, l.h = 0, l.y+l.h, 0
}

func (l *layout) place(w, h int) object {
	if l.x+w > columns {
		l.newLine()
	}
	pos := object{"x": l.x, "y": l.y, "w": w, "h": h}
	l.x, l.h = l.x+w, max(l.h, h)
	return pos
}

// addRow adds a heading and its panels; those of a closed row are within the heading, as Grafana wants it.
func (l *layout) addRow(r *row) {
	l.newLine()
	l.id++
	heading := object{"id": l.id, "type": "row", "title": r.title, "collapsed": r.closed, "gridPos": l.place(columns, 1), "panels": []object{}}
	l.newLine()
	end := l.y
	var inside []object
	for i := range r.panels {
		inside = append(inside, l.panel(&r.panels[i]))
	}
	l.newLine()
	if r.closed { // closed, it takes one line
		l.y = end
		heading["panels"] = inside
		inside = nil
	}
	l.panels = append(append(l.panels, heading), inside...)
}

func (l *layout) panel(p *panel) object {
	l.id++
	kind, w, h := p.kind, p.width, graphHeight
	switch kind {
	case "":
		kind = "timeseries"
	case "stat":
		h = statHeight
	}
	if w == 0 {
		w = columns / 2
	}
	var targets []object
	for i, q := range p.queries {
		t := object{"refId": string(rune('A' + i)), "datasource": source(), "editorMode": "code", "expr": q.expr, "legendFormat": q.legend, "range": kind == "timeseries", "instant": kind != "timeseries"}
		if kind == "table" {
			t["format"] = "table"
		}
		targets = append(targets, t)
	}
	defaults := object{"unit": p.unit, "min": 0, "links": []any{}, "custom": custom(kind)}
	if p.max > 0 {
		defaults["max"] = p.max
	}
	return object{
		"id": l.id, "type": kind, "title": p.title, "description": p.about, "datasource": source(), "gridPos": l.place(w, h), "targets": targets,
		"fieldConfig": object{"defaults": defaults, "overrides": []any{}}, "options": options(kind),
	}
}

// custom returns how the values of a kind of panel are drawn.
func custom(kind string) object {
	if kind != "timeseries" {
		return object{}
	}
	return object{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 0, "showPoints": "never", "spanNulls": false, "stacking": object{"mode": "none", "group": "A"}}
}

func options(kind string) object {
	switch kind {
	case "stat":
		return object{"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "orientation": "auto", "textMode": "auto", "reduceOptions": object{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}}
	case "table":
		return object{"showHeader": true, "cellHeight": "sm", "sortBy": []object{{"displayName": "Value", "desc": true}}}
	}
	return object{
		"legend":  object{"displayMode": "table", "placement": "bottom", "showLegend": true, "calcs": []string{"mean", "lastNotNull", "max"}, "sortBy": "Last *", "sortDesc": true},
		"tooltip": object{"mode": "multi", "sort": "desc"},
	}
}

// with puts selectors in the place of names in braces with an at sign, such as {@storage, type="x"}.
func with(expr string, selectors map[string]string) string {
	for name, s := range selectors {
		expr = strings.ReplaceAll(expr, "@"+name, s)
	}
	if strings.Contains(expr, "@") {
		panic(fmt.Sprintf("unknown selector in %q", expr))
	}
	return expr
}

func (d *dashboard) resolve(selectors map[string]string) *dashboard {
	for _, r := range d.rows {
		for _, p := range r.panels {
			for i := range p.queries {
				p.queries[i].expr = with(p.queries[i].expr, selectors)
			}
		}
	}
	return d
}
