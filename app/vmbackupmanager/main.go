package main

import (
	"os"
	_ "time/tzdata" // for -backupScheduleTimezone where the system knows no time zones, as in a container

	"vmcluster/lib/service"
)

// version is set by the linker.
var version = "dev"

func main() {
	c := &component{}
	os.Exit(service.Main("vmbackupmanager", version, c, c.commands()...))
}
