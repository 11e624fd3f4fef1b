"""The Greengrass component that rotates a device's credential."""
