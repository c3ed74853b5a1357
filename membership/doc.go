// Package membership knows the drives and volumes of a cluster: which drive can do what, where the slots of a volume lie,
// and which volume takes the next blob.
//
// It owns five things. Place, Replace and Width are placement as pure functions of values. View is what readers and
// writers ask on every request: a cached copy of the committed volumes and drives, overlaid with what the data node
// measures now, and leased blob IDs; every process has one. Keeper commits what changed of a data node's own drives (a
// state, a drive that was replaced); every process with drives has one. Steward opens and seals volumes, and records slots
// whose drive is gone as damage, and Watcher probes the nodes and commits their states; one process has these two, the one
// beside the metadata's leader.
//
// Invariants: a volume's slots are distinct drives, in distinct failure domains as far as there are that many; a blob ID is
// handed out once; a drive's committed state follows what its own node measures, and nothing is decided from a drive that
// merely cannot be seen except that it is missing ("unknown is not absent"): it is retired only when another identity has
// taken its path, and it is taken back when it returns.
//
// Serf is a node's part in the gossip. A node's state is a commit, too, and judge decides it as a pure function of the rows and of what the probes saw; gossip
// is a hint. Automatic repair is slow to begin on purpose: at most one failure domain goes out by itself, and none while many
// nodes are away at once.
//
// What it deliberately does not do: it moves no data and deletes nothing; repair does.
package membership
