// Command balefire is an authoritative DNS server whose nodes all read one log, and the command line to
// it. `balefire serve` is the server: this package wires the others together, and is the only one that
// reads configuration, handles signals, or exits. All other commands speak HTTP to a server, or work on
// local files, and know nothing of the server's insides.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes of every command.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The second signal ends the process at once: whoever sends it does not want to wait.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process around it, for tests.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root, began := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	var usage *usageError
	if *began && !errors.As(err, &usage) {
		if !errors.Is(err, errReported) {
			fmt.Fprintf(errOut, "balefire: %v\n", err)
		}
		return exitFailed
	}
	fmt.Fprintf(errOut, "balefire: %v\nTry '%s --help'.\n", err, cmd.CommandPath())
	return exitUsage
}

// usageError is a mistake in how a command was called, found after its flags were read.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// errReported ends a command that has already said what went wrong.
var errReported = errors.New("failed")

// newRoot makes the command tree. began becomes true when a command's own work starts: what fails before
// is a mistake in usage.
func newRoot() (root *cobra.Command, began *bool) {
	began = new(bool)
	root = &cobra.Command{
		Use:           "balefire",
		Short:         "An authoritative DNS server for many zones in many places",
		SilenceUsage:  true,
		SilenceErrors: true,
		PersistentPreRun: func(*cobra.Command, []string) {
			*began = true
		},
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		newServeCommand(),
		newZoneCommand(),
		newRecordCommand(),
		newChangeCommand(),
		newBackupCommand(),
		newClusterCommand(),
		newGroupsCommand(),
		newNodeCommand(),
		newNamespaceCommand(),
		newTSIGCommand(),
		newACLCommand(),
		newCatalogCommand(),
		newDevCommand(),
		newConfigCommand(),
		newVersionCommand(),
		newManCommand(),
	)
	return root, began
}

// group is a command that only has others below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usagef("%s needs a subcommand", cmd.CommandPath())
		},
	}
	cmd.AddCommand(below...)
	return cmd
}
