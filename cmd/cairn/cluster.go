package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"cairn"
	"cairn/admin"
)

func nodeCommand() *cobra.Command {
	return group("node", "Show the nodes of the cluster, empty them and remove them",
		listCommand("List the nodes", "/api/v1/nodes", func(list []cairn.Node) string { return nodesText(list, time.Now()) }),
		showCommand("NODE", "Show one node, by its name, ID or the beginning of it", findNode, func(n cairn.Node) string { return nodeText(n, time.Now()) }),
		nodeDrainCommand(), nodeUndrainCommand(), nodeOutCommand(), nodeRemoveCommand())
}

func driveCommand() *cobra.Command {
	return group("drive", "Show the drives of the cluster, and empty them",
		listCommand("List the drives", "/api/v1/drives", func(list []cairn.Drive) string { return drivesText(list, time.Now()) }),
		showCommand("DRIVE", "Show one drive, by its ID, the beginning of it, or its path", findDriveDetail, func(d driveDetail) string { return driveDetailText(d, time.Now()) }),
		driveDrainCommand(), driveUndrainCommand())
}

func volumeCommand() *cobra.Command {
	return group("volume", "Show the volumes: rows of drives that hold blobs",
		volumeListCommand(),
		showCommand("VOLUME", "Show one volume, its slots, and what it holds", func(ctx context.Context, a *adminClient, id string) (v admin.VolumeDetail, err error) {
			return v, a.call(ctx, "GET", "/api/v1/volumes/"+id, &v)
		}, volumeText))
}

func metaCommand() *cobra.Command {
	return group("meta", "Show the metadata's voters, and say which nodes may carry them",
		voterCommand("add", "PUT", "Let a node of the meta role carry a voter (they all may, unless one was removed)"),
		voterCommand("remove", "DELETE", "Move the voter of a node to another one"),
		listCommand("List the voters", "/api/v1/status", func(st admin.Status) string { return votersText(st.Voters) }))
}

// voterCommand changes which nodes may carry voters.
func voterCommand(use, method, short string) *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{Use: use + " NODE", Short: short, Args: usageArgs(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, args []string) error {
		a, err := flags.client()
		if err != nil {
			return err
		}
		n, err := findNode(c.Context(), a, args[0])
		if err != nil {
			return err
		}
		if err := a.call(c.Context(), method, "/api/v1/voters/"+n.ID.String(), &struct{}{}); err != nil {
			return err
		}
		fmt.Fprintln(c.ErrOrStderr(), "Recorded; `cairn meta ls` shows the voters move.")
		return nil
	}}
	flags.register(c)
	return c
}

// listCommand prints what one path answers.
func listCommand[T any](short, path string, text func(T) string) *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{Use: "ls", Short: short, Args: usageArgs(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		a, err := flags.client()
		if err != nil {
			return err
		}
		var v T
		if err := a.call(c.Context(), "GET", path, &v); err != nil {
			return err
		}
		return output.print(c.OutOrStdout(), v, func() string { return text(v) })
	}}
	output.register(c)
	flags.register(c)
	return c
}

// showCommand prints the one thing that find finds.
func showCommand[T any](arg, short string, find func(context.Context, *adminClient, string) (T, error), text func(T) string) *cobra.Command {
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{Use: "show " + arg, Short: short, Args: usageArgs(cobra.ExactArgs(1)), RunE: func(c *cobra.Command, args []string) error {
		a, err := flags.client()
		if err != nil {
			return err
		}
		v, err := find(c.Context(), a, args[0])
		if err != nil {
			return err
		}
		return output.print(c.OutOrStdout(), v, func() string { return text(v) })
	}}
	output.register(c)
	flags.register(c)
	return c
}

// volumeListCommand pages through all volumes.
func volumeListCommand() *cobra.Command {
	const page = 1000
	var output outputFlag
	var flags adminFlags
	c := &cobra.Command{Use: "ls", Short: "List the volumes", Args: usageArgs(cobra.NoArgs), RunE: func(c *cobra.Command, _ []string) error {
		a, err := flags.client()
		if err != nil {
			return err
		}
		all := []cairn.Volume{}
		for after := cairn.VolumeID(0); ; {
			var list []cairn.Volume
			if err := a.call(c.Context(), "GET", fmt.Sprintf("/api/v1/volumes?after=%s&max=%d", after, page), &list); err != nil {
				return err
			}
			all = append(all, list...)
			if len(list) < page {
				break
			}
			after = list[len(list)-1].ID
		}
		return output.print(c.OutOrStdout(), all, func() string { return volumesText(all) })
	}}
	output.register(c)
	flags.register(c)
	return c
}

// findOne returns the only element that matches; kind names it in the errors.
func findOne[T any](list []T, kind, what string, match func(T) bool) (found T, err error) {
	hits := slices.DeleteFunc(slices.Clone(list), func(v T) bool { return !match(v) })
	switch len(hits) {
	case 1:
		return hits[0], nil
	case 0:
		return found, fmt.Errorf("no %s is %q; `cairn %s ls` lists them", kind, what, kind)
	}
	return found, fmt.Errorf("%d %ss match %q; give more of the ID", len(hits), kind, what)
}

const minPrefix = 4 // digits of an ID that are enough to mean it

func isPrefix(id, what string) bool { return len(what) >= minPrefix && strings.HasPrefix(id, what) }

func findNode(ctx context.Context, a *adminClient, what string) (n cairn.Node, err error) {
	var list []cairn.Node
	if err := a.call(ctx, "GET", "/api/v1/nodes", &list); err != nil {
		return n, err
	}
	if i := slices.IndexFunc(list, func(n cairn.Node) bool { return n.Name == what && n.State != cairn.NodeRemoved }); i >= 0 {
		return list[i], nil
	}
	return findOne(list, "node", what, func(n cairn.Node) bool { return isPrefix(n.ID.String(), what) })
}

func findDrive(ctx context.Context, a *adminClient, what string) (d cairn.Drive, err error) {
	var list []cairn.Drive
	if err := a.call(ctx, "GET", "/api/v1/drives", &list); err != nil {
		return d, err
	}
	return findOne(list, "drive", what, func(d cairn.Drive) bool { return isPrefix(d.ID.String(), what) || d.Path == what && !d.Retired })
}

func nodesText(list []cairn.Node, now time.Time) string {
	return table("NAME\tSTATE\tSINCE\tROLES\tADDRESS\tZONE\tRACK\tID", func(row func(string, ...any)) {
		for _, n := range list {
			row("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", n.Name, n.State, sinceText(now, n.StateSince), n.Roles, n.Addr, orDash(n.Zone), orDash(n.Rack), n.ID)
		}
	})
}

func nodeText(n cairn.Node, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "node     %s %s\nstate    %s for %s: %s\nroles    %s\naddress  %s, gossip %s\nzone     %s, rack %s\njoined   %s\nversion  %s, format %d\n",
		n.Name, n.ID, n.State, sinceText(now, n.StateSince), n.Reason, n.Roles, n.Addr, orDash(n.Gossip), orDash(n.Zone), orDash(n.Rack),
		n.JoinedAt.Local().Format(time.DateTime), n.Version, n.Format)
	for _, h := range slices.Backward(n.History) {
		fmt.Fprintf(&b, "         %s  %s: %s\n", h.At.Local().Format(time.DateTime), h.State, h.Reason)
	}
	return b.String()
}

func drivesText(list []cairn.Drive, now time.Time) string {
	return table("DRIVE\tSTATE\tSINCE\tFREE\tSIZE\tNODE\tPATH", func(row func(string, ...any)) {
		for _, d := range list {
			row("%s\t%s\t%s\t%s\t%s\t%s\t%s", short(d.ID.String()), driveState(d), sinceText(now, d.StateSince), bytesText(d.FreeBytes), bytesText(d.TotalBytes),
				short(d.Node.String()), orDash(d.Path))
		}
	})
}

func driveText(d cairn.Drive, now time.Time) string {
	return fmt.Sprintf("drive    %s\nnode     %s\npath     %s\nstate    %s for %s %s\nspace    %s free of %s\ndomains  %s\n", d.ID, d.Node, orDash(d.Path), driveState(d),
		sinceText(now, d.StateSince), d.Reason, bytesText(d.FreeBytes), bytesText(d.TotalBytes), orDash(strings.Join(d.Domains, " / ")))
}

// driveState says of a retired drive that it is gone for good.
func driveState(d cairn.Drive) string {
	if d.Retired {
		return "retired"
	}
	return d.State.String()
}

func volumesText(list []cairn.Volume) string {
	return table("VOLUME\tPROFILE\tSTATE\tEPOCH\tSLOTS", func(row func(string, ...any)) {
		for _, v := range list {
			var slots []string
			for _, d := range v.Slots {
				slots = append(slots, short(d.String()))
			}
			row("%s\t%s\t%s\t%d\t%s", v.ID, v.Profile, v.State, v.Epoch, strings.Join(slots, " "))
		}
	})
}

func volumeText(v admin.VolumeDetail) string {
	head := fmt.Sprintf("volume   %s, profile %s, %s, epoch %d\nholds    %d blobs, %s\n\n", v.ID, v.Profile, v.State, v.Epoch, v.Blobs, bytesText(v.Bytes))
	return head + table("SLOT\tDRIVE\tSTATE\tNODE\tPATH", func(row func(string, ...any)) {
		for i, d := range v.Drives {
			row("%d\t%s\t%s\t%s\t%s", i, short(d.ID.String()), driveState(d), short(d.Node.String()), orDash(d.Path))
		}
	})
}

func votersText(list []admin.Voter) string {
	return table("VOTER\tSTATE\tROLE\tNODE\tPATH", func(row func(string, ...any)) {
		for _, v := range list {
			role := "follower"
			if v.Leader {
				role = "leader"
			}
			row("%d\t%s\t%s\t%s\t%s", v.ID, v.State, role, orDash(short(v.Node)), orDash(v.Path))
		}
	})
}

// table aligns rows under a head.
func table(head string, fill func(row func(format string, args ...any))) string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, head)
	fill(func(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) })
	t.Flush()
	return b.String()
}

func short(id string) string { return id[:min(len(id), 8)] }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
