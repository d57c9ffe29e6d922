"""tpe-pcap: audits captures of ThingPark base stations."""
