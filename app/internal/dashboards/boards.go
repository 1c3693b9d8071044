package main

func cluster() *dashboard {
	const instance = `instance=~"$instance"`
	d := &dashboard{
		file: "victoriametrics-cluster.json", uid: "oS7Bi_0Wz", title: "VictoriaMetrics - cluster",
		about: "A cluster of vminsert, vmselect and vmstorage. See docs/monitoring.md.",
		variables: []variable{
			{"job", "Job", `label_values(vm_app_version{version=~"^vm(insert|select|storage).*"}, job)`},
			{"job_insert", "Jobs of vminsert", `label_values(vm_app_version{job=~"$job", version=~"^vminsert.*"}, job)`},
			{"job_select", "Jobs of vmselect", `label_values(vm_app_version{job=~"$job", version=~"^vmselect.*"}, job)`},
			{"job_storage", "Jobs of vmstorage", `label_values(vm_app_version{job=~"$job", version=~"^vmstorage.*"}, job)`},
			{"instance", "Instance", `label_values(vm_app_version{job=~"$job"}, instance)`},
		},
		rows: []row{stats(), {title: "Overview", panels: append(overview(), panel{
			title: "Partial answers", about: "Answers per second that lacked the data of a storage node. Normal: none. Bring it back; the log of vmselect names it.", unit: "reqps",
			queries: []query{{`sum by (instance) (rate(vm_partial_results_total{@select}[$__rate_interval]))`, "{{instance}}"}},
		})}, resources(), troubleshooting(), interconnection(), {title: "vmstorage", closed: true, panels: append(storagePanels(), storageOfCluster()...)},
			{title: "vmselect", closed: true, panels: append(readPanels(), selectOfCluster()...)}, {title: "vminsert", closed: true, panels: append(writePanels(), insertOfCluster()...)}, drilldown()},
	}
	return d.resolve(map[string]string{
		"any": `job=~"$job", ` + instance, "insert": `job=~"$job_insert", ` + instance, "select": `job=~"$job_select", ` + instance, "storage": `job=~"$job_storage", ` + instance,
	})
}

func interconnection() row {
	to := "{{instance}} to {{addr}}"
	return row{title: "Interconnection", closed: true, panels: []panel{
		{title: "Storage nodes as vminsert sees them", about: "1: reached. 0: their samples go elsewhere. Start the node, or look at the network.", unit: "short",
			queries: []query{{`vm_rpc_vmstorage_is_reachable{@insert}`, to}}},
		{title: "Storage nodes as vmselect sees them", about: "1: reached. 0: answers may lack data.", unit: "short",
			queries: []query{{`vm_tcpdialer_addr_available{@select}`, to}}},
		{title: "Read-only nodes as vminsert sees them", about: "1: the disk of the node is full, and its samples go elsewhere.", unit: "short",
			queries: []query{{`vm_rpc_vmstorage_is_read_only{@insert}`, to}}},
		{title: "Saturation of connections", about: "Share of the time vminsert waits for a storage node. Above 90 %: CPU, disk or network there; more nodes.", unit: "percentunit",
			queries: []query{{`sum by (instance, addr) (rate(vm_rpc_send_duration_seconds_total{@insert}[$__rate_interval]))`, to}}},
		{title: "Samples that go elsewhere", about: "Samples per second of a node which others take, since it is away, read-only, overloaded or slow. Normal: none but while nodes restart.", unit: "short",
			queries: []query{{`sum by (addr) (rate(vm_rpc_rows_rerouted_from_here_total{@insert}[$__rate_interval]))`, "from {{addr}}"}, {`sum by (addr) (rate(vm_rpc_rows_rerouted_to_here_total{@insert}[$__rate_interval]))`, "to {{addr}}"}}},
		{title: "Samples with too few copies, and dropped ones", about: "Per second. Normal: none. Too few copies: bring nodes back. Dropped: only with -dropSamplesOnOverload; more storage nodes.", unit: "short",
			queries: []query{
				{`sum by (instance) (rate(vm_rpc_rows_incompletely_replicated_total{@insert}[$__rate_interval]))`, "{{instance}} too few copies"},
				{`sum by (instance) (rate(vm_rpc_rows_dropped_on_overload_total{@insert}[$__rate_interval]))`, "{{instance}} dropped"}}},
		{title: "Errors of connections", about: "Connections per second that broke, were not made, or were not understood. Normal: none but while nodes restart. Network, addresses, versions, certificates.", unit: "short",
			queries: []query{
				{`sum by (job, instance, addr) (rate(vm_rpc_connection_errors_total{@any}[$__rate_interval]))`, "{{job}} {{instance}} to {{addr}} broke"},
				{`sum by (job, instance, addr) (rate(vm_rpc_dial_errors_total{@any}[$__rate_interval]))`, "{{job}} {{instance}} to {{addr}} not made"},
				{`sum by (job, instance) (rate(vm_rpc_handshake_errors_total{@any}[$__rate_interval]))`, "{{job}} {{instance}} not understood"}}},
		{title: "Samples that wait for a node", about: "In vminsert. Normal: few. Growth: the node is slow.", unit: "short",
			queries: []query{{`sum by (instance, addr) (vm_rpc_rows_pending{@insert})`, to}}},
		{title: "Traffic from vminsert to storage nodes", about: "Bytes per second. Some 4 bytes a sample of known series.", unit: "Bps",
			queries: []query{{`sum by (addr) (rate(vm_tcpdialer_written_bytes_total{@insert}[$__rate_interval]))`, "to {{addr}}"}}},
		{title: "Traffic from storage nodes to vmselect", about: "Bytes per second. Aggregates are computed where the data is, so it can be far less than what is read.", unit: "Bps",
			queries: []query{{`sum by (addr) (rate(vm_tcpdialer_read_bytes_total{@select}[$__rate_interval]))`, "from {{addr}}"}}},
		{title: "Connections at storage nodes", about: "Of vminserts and vmselects. Normal: one each.", unit: "short",
			queries: []query{{`sum by (instance, name) (vm_tcplistener_conns{@storage, name!="http"})`, "{{instance}} {{name}}"}}},
		{title: "Storage nodes in use", about: "By the lists of vminsert and vmselect. Unlike numbers: compare their flags -storageNode.", unit: "short",
			queries: []query{{`vm_storage_nodes{@any}`, "{{job}} {{instance}}"}}},
	}}
}

func storageOfCluster() []panel {
	return []panel{
		{title: "Samples received", about: "Samples per second from vminserts.", unit: "short", queries: []query{{`sum by (instance) (rate(vm_vminsert_metrics_read_total{@storage}[$__rate_interval]))`, "{{instance}}"}}},
		{title: "Searches at a time", about: "Searches of vmselects that run, and how many may. Waiting ones mean too little CPU.", unit: "short",
			queries: []query{{`sum by (instance) (vm_vmselect_concurrent_requests_current{@storage})`, "{{instance}}"}, {`min(vm_vmselect_concurrent_requests_capacity{@storage})`, "limit"}}},
		{title: "Searches that wait or give up", about: "Per second. Normal: none.", unit: "short",
			queries: []query{
				{`sum by (instance) (rate(vm_vmselect_concurrent_requests_limit_reached_total{@storage}[$__rate_interval]))`, "{{instance}} wait"},
				{`sum by (instance) (rate(vm_vmselect_concurrent_requests_limit_timeout_total{@storage}[$__rate_interval]))`, "{{instance}} give up"}}},
		{title: "Samples sent to vmselect", about: "Per second.", unit: "short", queries: []query{{`sum by (instance) (rate(vm_vmselect_metric_rows_read_total{@storage}[$__rate_interval]))`, "{{instance}}"}}},
	}
}

func selectOfCluster() []panel {
	return []panel{
		{title: "Where aggregates are computed", about: "At the storage nodes, which send less, or by vmselect from samples, when several nodes hold the same series or there are as many groups as series.", unit: "ops",
			queries: []query{{`sum by (evaluated_by) (rate(vm_query_fragments_total{@select}[$__rate_interval]))`, "{{evaluated_by}}"}, {`sum(rate(vm_query_fragments_declined_total{@storage}[$__rate_interval]))`, "declined"}}},
		{title: "Slow copies not waited for", about: "With -search.skipSlowReplicas. Many: look at the slow node.", unit: "ops",
			queries: []query{{`sum by (instance) (rate(vm_slow_replicas_skipped_total{@select}[$__rate_interval]))`, "{{instance}}"}}},
	}
}

func insertOfCluster() []panel {
	return []panel{
		{title: "Samples sent", about: "Samples per second by storage node. Normal: even.", unit: "short",
			queries: []query{{`sum by (addr) (rate(vm_rpc_rows_sent_total{@insert}[$__rate_interval]))`, "{{addr}}"}}},
		{title: "Changes of routes", about: "How often per second rows began to go elsewhere. Normal: none.", unit: "ops",
			queries: []query{{`sum by (instance) (rate(vm_rpc_reroutes_total{@insert}[$__rate_interval]))`, "{{instance}}"}}},
	}
}

func single() *dashboard {
	d := &dashboard{
		file: "victoriametrics.json", uid: "wNf0q_kZk", title: "VictoriaMetrics - single node",
		about: "Single nodes. See docs/monitoring.md.",
		variables: []variable{
			{"job", "Job", `label_values(vm_app_version{version=~"^victoria-metrics.*"}, job)`},
			{"instance", "Instance", `label_values(vm_app_version{job=~"$job", version=~"^victoria-metrics.*"}, instance)`},
		},
		rows: []row{stats(), {title: "Overview", panels: overview()}, resources(), troubleshooting(), {title: "Storage", closed: true, panels: storagePanels()},
			{title: "Reads", closed: true, panels: readPanels()}, {title: "Writes", closed: true, panels: writePanels()}, drilldown()},
	}
	const own = `job=~"$job", instance=~"$instance"`
	return d.resolve(map[string]string{"any": own, "insert": own, "select": own, "storage": own})
}

func tenants() *dashboard {
	by := "{{accountID}}:{{projectID}}"
	d := &dashboard{
		file: "clusterbytenant.json", uid: "IZFqd3lMz", title: "VictoriaMetrics - tenants of a cluster",
		about: "What each tenant sends, asks and keeps. See docs/multitenancy.md.",
		variables: []variable{
			{"job", "Job", `label_values(vm_app_version{version=~"^vm(insert|select|storage).*"}, job)`},
			{"instance", "Instance", `label_values(vm_app_version{job=~"$job"}, instance)`},
			{"accountID", "Account", `label_values(vm_tenant_active_timeseries{job=~"$job"}, accountID)`},
			{"projectID", "Project", `label_values(vm_tenant_active_timeseries{job=~"$job", accountID=~"$accountID"}, projectID)`},
		},
		rows: []row{{title: "Tenants", panels: []panel{
			{title: "Tenants", about: "With active series.", kind: "stat", width: 6, unit: "short", queries: []query{{`count(count by (accountID, projectID) (vm_tenant_active_timeseries{@any}))`, ""}}},
			{title: "Samples", about: "Samples per second of the tenants chosen.", kind: "stat", width: 6, unit: "short", queries: []query{{`sum(rate(vm_tenant_inserted_rows_total{@any}[$__rate_interval]))`, ""}}},
			{title: "Active series", about: "Copies included: divide by -replicationFactor.", kind: "stat", width: 6, unit: "short", queries: []query{{`sum(vm_tenant_active_timeseries{@any})`, ""}}},
			{title: "Disk", about: "Copies included.", kind: "stat", width: 6, unit: "bytes", queries: []query{{`sum(vm_tenant_used_tenant_bytes{@any})`, ""}}},
			{title: "Samples by tenant", about: "Samples per second. A tenant that doubles overnight has a new sender; -tenantLimits.config bounds it.", unit: "short",
				queries: []query{{`sum by (accountID, projectID) (rate(vm_tenant_inserted_rows_total{@any}[$__rate_interval]))`, by}}},
			{title: "Samples by protocol", about: "Of the tenants chosen.", unit: "short", queries: []query{{`sum by (type) (rate(vm_tenant_inserted_rows_total{@any}[$__rate_interval]))`, "{{type}}"}}},
			{title: "Active series by tenant", about: "Series with a sample in the last hour, copies included. Memory goes by it; active_series=N in -tenantLimits.config bounds it.", unit: "short",
				queries: []query{{`sum by (accountID, projectID) (vm_tenant_active_timeseries{@any})`, by}}},
			{title: "New series by tenant", about: "Per second. Steadily much is churn, and makes the index grow for all.", unit: "short",
				queries: []query{{`sum by (accountID, projectID) (rate(vm_tenant_timeseries_created_total{@any}[$__rate_interval]))`, by}}},
			{title: "Disk by tenant", about: "What samples and index take, copies included.", unit: "bytes", queries: []query{{`sum by (accountID, projectID) (vm_tenant_used_tenant_bytes{@any})`, by}}},
			{title: "Queries by tenant", about: "Requests per second.", unit: "reqps", queries: []query{{`sum by (accountID, projectID) (rate(vm_tenant_select_requests_total{@any}[$__rate_interval]))`, by}}},
			{title: "Time of queries by tenant", about: "Mean of a request. A tenant far above the others: look at its queries in /api/v1/status/top_queries.", unit: "ms",
				queries: []query{{`sum by (accountID, projectID) (rate(vm_tenant_select_requests_duration_ms_total{@any}[$__rate_interval])) / (sum by (accountID, projectID) (rate(vm_tenant_select_requests_total{@any}[$__rate_interval])) > 0)`, by}}},
			{title: "Share of the time of all queries", about: "Which tenants the vmselects work for.", unit: "percentunit", max: 1,
				queries: []query{{`sum by (accountID, projectID) (rate(vm_tenant_select_requests_duration_ms_total{@any}[$__rate_interval])) / on () group_left () sum(rate(vm_tenant_select_requests_duration_ms_total{@any}[$__rate_interval]))`, by}}},
			{title: "Beyond limits", about: "Requests per second that were refused, or left out in part, by limit. Normal: none. Tell the tenant, or raise the limit.", unit: "reqps",
				queries: []query{{`sum by (accountID, projectID, limit) (rate(vm_tenant_limit_exceeded_total{@any}[$__rate_interval]))`, by + " {{limit}}"}}},
		}}},
	}
	return d.resolve(map[string]string{"any": `job=~"$job", instance=~"$instance", accountID=~"$accountID", projectID=~"$projectID"`})
}

func backups() *dashboard {
	kind := "{{instance}} {{type}}"
	d := &dashboard{
		file: "backupmanager.json", uid: "gF-lxRdVz", title: "VictoriaMetrics - backups",
		about: "Scheduled backups by vmbackupmanager, one beside each storage node. See docs/backups.md.",
		variables: []variable{
			{"job", "Job", `label_values(vm_app_version{version=~"^vmbackupmanager.*"}, job)`},
			{"instance", "Instance", `label_values(vm_app_version{job=~"$job", version=~"^vmbackupmanager.*"}, instance)`},
		},
		rows: []row{{title: "Backups", panels: []panel{
			{title: "Age of the last backup", about: "Time since the last success, by type. Normal: below an hour and a day, a week or a month. More: see errors, and the log.", unit: "s",
				queries: []query{{`time() - (vm_backup_last_success_at{@any} > 0)`, kind}}},
			{title: "Last run failed", about: "1 when it did. It is tried again; the log has the cause.", unit: "short", queries: []query{{`vm_backup_last_run_failed{@any}`, kind}}},
			{title: "Errors", about: "Failed runs per hour. Normal: none.", unit: "short", queries: []query{{`increase(vm_backup_errors_total{@any}[1h])`, kind}}},
			{title: "Time of the last run", about: "Longer than the interval between backups: raise -concurrency, or lower -maxBytesPerSecond no further.", unit: "s", queries: []query{{`vm_backup_last_duration_seconds{@any}`, kind}}},
			{title: "Size of the last backup", about: "Grows with the data. A sudden fall: look whether the right node is backed up.", unit: "bytes", queries: []query{{`vm_backup_last_size_bytes{@any}`, kind}}},
			{title: "Sent", about: "Bytes per second to the store. Only what is new is sent.", unit: "Bps", queries: []query{{`rate(vm_backups_uploaded_bytes_total{@any}[$__rate_interval])`, "{{instance}}"}}},
			{title: "Loaded", about: "Bytes per second from the store: restores and verifications.", unit: "Bps", queries: []query{{`rate(vm_backups_downloaded_bytes_total{@any}[$__rate_interval])`, "{{instance}}"}}},
			{title: "Deleted by retention", about: "Backups per day that were deleted since there are newer ones.", unit: "short", queries: []query{{`increase(vm_backup_retention_deleted_total{@any}[1d])`, kind}}},
		}}},
	}
	return d.resolve(map[string]string{"any": `job=~"$job", instance=~"$instance"`})
}
