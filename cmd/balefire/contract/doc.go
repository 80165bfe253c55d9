// Package contract tests what users see and what others script against, sentence by sentence: the real program as
// processes of its own, asked by DNS clients that other people wrote, by its own command line, and over HTTP. What
// fails here breaks somebody's script.
package contract
